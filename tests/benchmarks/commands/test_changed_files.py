"""Files replaced under the same names and sizes: no command takes old numbers for theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.results.result import Result
from benchmarks.runs import inputs as module
from multimodal.contents import digest
from multimodal.errors import UserError
from tests.benchmarks.commands.test_life_of_a_run import ZERO

PROMPTS = "templates: ['{}']\nlabels: spaces\n"


def swap(folder: Path) -> None:
    """Exchange the sounds of two classes' files of equal length; sizes and times stay."""
    low, high = sorted((folder / "low").iterdir()), sorted((folder / "high").iterdir())
    for one, two in zip(low, high, strict=True):
        (first, rate), (second, _) = soundfile.read(one), soundfile.read(two)
        before = one.stat(), two.stat()
        soundfile.write(one, second[: len(first)], rate)
        soundfile.write(two, first, rate)
        for path, was in zip((one, two), before, strict=True):
            assert path.stat().st_size == was.st_size
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def check_refused(outcome: Any, *words: str) -> None:
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    for word in ("files that this run reads have changed since it began", "--fresh", *words):
        assert word in lines[0]


@pytest.mark.parametrize(
    ("command", "cache"),
    [
        ("bench", "disk"),
        pytest.param("align", "memory", marks=pytest.mark.slow),
        ("zeroshot", "disk"),
    ],
)
def test_replaced_recordings_are_refused(medley, tones, command: str, cache: str) -> None:
    (tones / "zero.yaml").write_text(ZERO)
    file = {"bench": "tiny.yaml", "align": "align.yaml", "zeroshot": "zero.yaml"}[command]
    words = [command, file, f"cache={cache}", "tracking={store: none}"]
    if command == "zeroshot":
        assert medley("align", "align.yaml").code == 0
    assert medley(*words).code == 0
    experiment = yaml.safe_load((tones / file).read_text())["experiment"]
    (path,) = tones.glob(f"runs/{experiment}/*/result.json")
    first = json.loads(path.read_text())
    assert first["dataset"]["files_hash"] == first["inputs"]["dataset"]
    again = medley(*words)
    assert again.code == 0, again.err
    if command != "zeroshot":
        assert f"files {first['inputs']['dataset']}" in again.err
    swap(tones / "clips")
    check_refused(medley(*words), f"dataset {first['inputs']['dataset']}, now ")
    assert json.loads(path.read_text()) == first
    assert medley(*words, "--fresh").code == 0
    second = json.loads(path.read_text())
    assert second["dataset"]["content_hash"] == first["dataset"]["content_hash"]
    assert second["inputs"]["dataset"] != first["inputs"]["dataset"]


def test_what_else_a_run_reads_counts_too(medley, tones) -> None:
    """A file of prompts; for a zero-shot run the aligned model."""
    (tones / "p.yaml").write_text(PROMPTS)
    (tones / "zero.yaml").write_text(ZERO)
    words = ["align", "align.yaml", "prompts.templates=p.yaml"]
    assert medley(*words).code == 0
    assert medley("zeroshot", "zero.yaml", "tracking={store: none}").code == 0
    (model,) = tones.glob("runs/tones/*/model.safetensors")
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    check_refused(medley("zeroshot", "zero.yaml", "tracking={store: none}"), "digest of model ")
    (tones / "p.yaml").write_text(PROMPTS.replace("'{}'", "'a {}'"))
    check_refused(medley(*words), "digest of prompts.templates ")


def made(folder: Path, *, fresh: bool = False, **changes: Any) -> Cells:
    data = yaml.safe_load((folder / "tiny.yaml").read_text())
    place = {"dataset": {"name": "folder", "root": str(folder / "clips")}}
    data |= {**place, "output_dir": str(folder / "runs"), **changes}
    return Cells(validate(RunConfig, data, source="tiny"), fresh=fresh)


class Stop:
    def begin(self, total_steps: int, done_steps: int) -> None: ...
    def step(self, strategy: object) -> None: ...
    def experience_done(self, index: int, count: int, measure: str, scores: list[float]) -> None:
        raise KeyboardInterrupt


def test_a_run_does_not_go_on_with_other_recordings(tiny) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(tiny).run_cell(0, Stop())
    swap(tiny / "clips")
    with pytest.raises(UserError, match="have changed since it began, under the same names"):
        made(tiny).run_cell(0)


def test_the_data_of_a_warm_up_counts(tiny) -> None:
    root = tiny / "first"
    (tiny / "clips").rename(root)
    warm_up = {"dataset": {"name": "folder", "root": str(root)}, "epochs": 1}
    changes = {"dataset": "toy", "warm_up": warm_up}
    result = made(tiny, **changes).run_cell(0)
    assert made(tiny, **changes).done == [result]
    swap(root)
    with pytest.raises(UserError, match=r"digest of warm_up\.dataset"):
        made(tiny, **changes)
    grid = made(tiny, fresh=True, **changes)  # the remedy that the line names
    grid.clear()
    again = grid.run_cell(0)
    assert again.inputs != result.inputs
    assert made(tiny, **changes).done == [again]


def test_of_a_folder_counts_what_is_read(tmp_path) -> None:
    """Of checkpoints and of tokenizers; notes beside them do not matter."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    data = {"modality": {"tokenizer": f"{tmp_path}/a"}, "encoder": {"checkpoint": f"{tmp_path}/b"}}

    def digests() -> dict[str, str]:
        return {setting: digest(files) for setting, files in module._named_files(data)}

    first = digests()
    assert first.keys() == {"modality.tokenizer", "encoder.checkpoint"}
    (tmp_path / "b" / "README.md").write_text("notes")
    assert digests() == first
    (tmp_path / "a" / "config.json").write_text("c")
    changed = digests()
    assert {setting for setting in first if changed[setting] != first[setting]} == {
        "modality.tokenizer"
    }


@pytest.mark.parametrize("changes", [{}, {"dataset": "toy"}], ids=["files", "no files"])
def test_results_of_earlier_versions_are_taken_with_a_word(tiny, capsys, changes) -> None:
    grid = made(tiny, **changes)
    result = grid.run_cell(0)
    old = Result(**{**vars(result), "inputs": None})
    old.save(grid.cells[0].folder)
    module._tell_unknown.cache_clear()
    assert made(tiny, **changes).done == [old]
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("medley:")]
    assert "runs of an earlier version, which did not note what their files held" in line
    assert "this version computes otherwise" in line
