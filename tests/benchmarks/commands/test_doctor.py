"""What the doctor finds, and that it says what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import socket
import time

import pytest
from rich.console import Console

from benchmarks.commands import doctor
from benchmarks.commands.doctor import EXTRAS, Finding, examine, run_doctor, torch_words

COMPANIONS = ("torchaudio", "torchvision")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("MEDLEY_DATA", "MLFLOW_TRACKING_URI", "MEDLEY_RECORDING_GIB"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def without(monkeypatch):
    """``without("av")``: as if that module, or that distribution, were not installed."""

    def lose(name: str, error: type[Exception] = ModuleNotFoundError) -> None:
        importing, version = importlib.import_module, importlib.metadata.version

        def import_module(module: str, package: str | None = None) -> object:
            if module == name:
                raise error(f"No module named {name!r}")
            return importing(module, package)

        def find_version(distribution: str) -> str:
            if distribution == name:
                raise importlib.metadata.PackageNotFoundError(name)
            return version(distribution)

        monkeypatch.setattr(importlib, "import_module", import_module)
        monkeypatch.setattr(importlib.metadata, "version", find_version)

    return lose


def printed() -> tuple[bool, str]:
    """What ``run_doctor`` returns and prints."""
    console = Console(file=io.StringIO(), width=250)
    works = run_doctor(console)
    assert isinstance(console.file, io.StringIO)
    return works, console.file.getvalue()


def found(subject: str) -> Finding:
    (finding,) = [f for f in examine() if f.subject == subject]
    return finding


@pytest.mark.parametrize(
    ("version", "audio", "vision"),
    [
        ("2.11.0", "2.11.0", "0.26.0"),
        ("2.14.1", "2.11.0", "0.29.1"),
        ("2.11.0+cpu", "2.11.0+cpu", "0.26.0+cpu"),
        ("2.12.0+cu130", "2.11.0+cu130", None),
        ("2.12.0", None, None),
        ("2.12.0+cu130", "2.11.0", "0.27.0"),  # an index whose default wheels are CUDA ones
        ("2.12.0", "2.11.0+cu130", "0.27.0"),
    ],
)
def test_torch_that_works(version: str, audio: str | None, vision: str | None) -> None:
    assert torch_words(version, dict(zip(COMPANIONS, (audio, vision), strict=True))) is None


@pytest.mark.parametrize("version", ["2.10.2", "2.15.0", "2.15.0+cu130", "3.0.0", "1.13.1"])
def test_torch_out_of_range(version: str) -> None:
    words = torch_words(version, {"torchaudio": "2.11.0"})
    assert words is not None
    assert f"torch {version} " in words
    assert "pip install 'torch>=2.11,<2.15'" in words


@pytest.mark.parametrize(
    ("version", "audio", "vision", "named"),
    [
        ("2.12.0+cpu", "2.11.0", "0.27.0+cpu", "torchaudio 2.11.0"),
        ("2.12.0", "2.11.0", "0.27.0+cpu", "torchvision 0.27.0+cpu"),
        ("2.12.0+cpu", "2.11.0+cpu", "0.27.0+cu130", "torchvision 0.27.0+cu130"),
        ("2.12.0+cu130", "2.11.0+cu126", None, "torchaudio 2.11.0+cu126"),
    ],
)
def test_torch_of_another_build(version: str, audio: str, vision: str | None, named: str) -> None:
    words = torch_words(version, dict(zip(COMPANIONS, (audio, vision), strict=True)))
    assert words is not None
    assert f"torch {version} and {named} are different builds" in words
    assert "install all three from one index" in words


def test_numbers() -> None:
    assert doctor.numbers("2.14.1+cu130") == (2, 14)
    assert doctor.numbers("2.14.0a0+git1234") == (2, 14)


def test_this_installation_works(capsys) -> None:
    findings = list(examine())
    assert [f for f in findings if f.state == "error"] == []
    subjects = [f.subject for f in findings]
    assert len(set(subjects)) == len(subjects)
    modules = [module for extra in EXTRAS.values() for module in extra]
    assert {"Python", "torch", "avalanche", "mlflow", "tracking", *modules} < set(subjects)
    works, text = printed()
    assert works
    assert "This installation works." in text
    assert all(subject in text for subject in subjects)


@pytest.mark.parametrize(
    ("extra", "module"), [(e, m) for e, modules in EXTRAS.items() for m in modules]
)
def test_a_missing_extra_is_a_warning(without, extra: str, module: str) -> None:
    without(module)
    finding = found(module)
    assert finding.state == "warning"
    assert EXTRAS[extra][module] in finding.words
    assert f"install the extra {extra!r}" in finding.words
    works, text = printed()
    assert works
    assert f"install the extra {extra!r}" in text


@pytest.mark.parametrize("error", [ModuleNotFoundError, OSError, RuntimeError])
def test_a_library_that_does_not_load_is_an_error(without, error: type[Exception]) -> None:
    without("peft", error)
    assert found("peft").state == "error"
    assert found("peft").words == f"{error.__name__}: No module named 'peft'; pip install peft"
    works, text = printed()
    assert not works
    assert "to mend: peft\n" in text
    assert "pip install peft" in text
    assert "This installation works" not in text


def test_without_torch_there_is_still_an_answer(without) -> None:
    without("torch")
    assert found("torch") == Finding(
        "error", "torch", "not installed; pip install 'torch>=2.11,<2.15'"
    )
    assert not printed()[0]


def test_what_to_mend_is_listed_in_order(monkeypatch) -> None:
    findings = [
        Finding("error", "torch", "broken"),
        Finding("warning", "av", "missing"),
        Finding("error", "output", "cannot write"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    works, text = printed()
    assert not works
    assert text.endswith("to mend: torch, output\n")


def test_the_memory_of_a_recording(monkeypatch) -> None:
    assert found("MEDLEY_RECORDING_GIB").words.endswith("may take 1 GiB (MEDLEY_RECORDING_GIB)")
    monkeypatch.setenv("MEDLEY_RECORDING_GIB", "all")
    assert found("MEDLEY_RECORDING_GIB").state == "error"


def test_the_data_folder(monkeypatch, tmp_path) -> None:
    assert found("MEDLEY_DATA").state == "ok"
    assert "data_root=FOLDER" in found("MEDLEY_DATA").words
    monkeypatch.setenv("MEDLEY_DATA", "gone")
    assert found("MEDLEY_DATA") == Finding("error", "MEDLEY_DATA", "gone is not a folder")
    for name in ("fsdd", "esc50"):
        (tmp_path / "data" / name).mkdir(parents=True)
    monkeypatch.setenv("MEDLEY_DATA", "data")
    assert found("MEDLEY_DATA") == Finding("ok", "MEDLEY_DATA", "data: esc50, fsdd")


def test_a_store_that_answers(monkeypatch, empty_store) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_store}")
    assert found("tracking").state == "ok"


def test_an_unreachable_store_is_an_error_and_its_password_a_secret(monkeypatch) -> None:
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{place}")
        began = time.monotonic()
        finding = found("tracking")
        assert time.monotonic() - began < 10
        works, text = printed()
    assert finding.state == "error"
    assert "MLFLOW_TRACKING_URI=" in finding.words
    assert place in finding.words
    assert "refused" in finding.words
    assert not works
    assert "to mend: tracking\n" in text
    assert "secret" not in text


def test_a_working_folder_that_cannot_be_written(monkeypatch, tmp_path) -> None:
    (tmp_path / "runs").touch()
    finding = found("output")
    assert finding.state == "error"
    assert "cannot write to runs" in finding.words


def test_the_command_answers_with_an_exit_code(medley, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: iter([Finding("ok", "Python", "3")]))
    assert medley("doctor").code == 0
    monkeypatch.setattr(doctor, "examine", lambda: iter([Finding("error", "torch", "gone")]))
    outcome = medley("doctor")
    assert outcome.code == 2
    assert "to mend: torch" in outcome.out
