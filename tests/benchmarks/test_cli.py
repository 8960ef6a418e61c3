"""The command ``medley``: its help, its commands and its exit codes."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import cli
from benchmarks.commands.bench import command
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config
from benchmarks.config.settings import find_config
from continual.learner import LEARNERS
from multimodal.datasets import DATASETS


def commands(app: typer.Typer, prefix: str = "") -> list[str]:
    """The words of every command, those of groups too."""
    own = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]
    groups = [(f"{g.name} ", g.typer_instance) for g in app.registered_groups]
    below = [word for name, group in groups if group for word in commands(group, prefix + name)]
    return [*(prefix + name for name in own), *below]


def places() -> list[str]:
    """What the commands of ``cli`` import to do their work."""
    files = Path(cli.__file__).parent.glob("*.py")
    found = [node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    wanted = [n for n in found if isinstance(n, ast.ImportFrom)]
    return [
        f"{n.module}.{alias.name}"
        for n in wanted
        if str(n.module).startswith("benchmarks.commands")
        for alias in n.names
    ]


def angled(command: str) -> list[str]:
    """What stands in angle brackets in the help of a command and of its parameters.

    Outside of backticks it is taken for a tag, and not shown.
    """
    found: Any = typer.main.get_command(cli.app)
    for word in command.split():
        found = found.commands[word]
    helps = [found.help, *(getattr(p, "help", None) for p in found.params)]
    return [word for text in helps for word in re.findall(r"<[^<>]+>", text or "")]


COMMANDS = commands(cli.app)
READING = ("bench", "align", "finetune", "zeroshot", "config show")  # of config files
HEAVY = {"torch", "mlflow", "pydantic", "numpy", "avalanche", "transformers", "soundfile"}
ASK_FOR_HELP = """
import sys
from benchmarks.cli import main
sys.argv = ["medley", "--help"]
try:
    main()
finally:
    print("loaded:", *sys.modules)
"""


# ---- help -----------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", ASK_FOR_HELP], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    text, _, loaded = answer.stdout.partition("loaded: ")
    assert "benchmarks.cli" in loaded.split()
    assert not HEAVY & set(loaded.split())
    assert all(command.split()[0] in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples_that_work(medley, monkeypatch, command: str) -> None:
    """The command itself is replaced, so only the words of its examples are tried."""
    outcome = medley(*command.split(), "--help")
    assert outcome.code == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", outcome.out).split())
    assert not {word for word in angled(command) if word not in text}
    section = re.search("Examples?: (.*?)( Arguments| Options|$)", text)
    assert section, text
    found = re.findall(r"medley .*?(?=,? medley |$)", section[1])
    assert found
    called, done = [], 0 if command == "grid" else True  # an exit code, or that all is well
    for place in places():
        monkeypatch.setattr(place, lambda *a, **k: called.append(a) or done)
    for example in found:
        words = shlex.split(example.partition(" > ")[0])
        assert words[: 1 + len(command.split())] == ["medley", *command.split()]
        assert medley(*words[1:]).code == 0, example
    assert len(called) == len(found)
    for path in [a[0] for a in called if command in READING]:
        assert path.name == "my.yaml" or find_config(path).exists()


def test_what_stands_in_angle_brackets_is_looked_for() -> None:
    assert "<hash>" in angled("predict")
    assert "<run>" in angled("finetune")


@pytest.mark.parametrize("words", ["benhc", "bench", "report --nothing", "datasets describe"])
def test_wrong_words_are_exit_code_2(medley, words: str) -> None:
    outcome = medley(*words.split())
    assert outcome.code == 2
    assert "Usage: " in outcome.err
    assert "Traceback" not in outcome.err


# ---- exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError])
def test_a_fault_of_ours_keeps_its_traceback(medley, monkeypatch, kind) -> None:
    def broken(*args: object, **options: object) -> None:
        raise kind("a fault")

    monkeypatch.setattr(command, "run_bench", broken)
    with pytest.raises(kind, match="a fault") as caught:
        medley("bench", "tiny.yaml")
    assert caught.traceback[-1].name == "broken"


def test_an_interrupted_command_says_how_to_go_on(medley, monkeypatch) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_bench", stopped)
    outcome = medley("bench", "tiny.yaml")
    assert outcome.code == 130
    assert outcome.err == "interrupted; the same command continues where it stopped\n"


# ---- datasets -------------------------------------------------------------------------------


def test_all_datasets_are_listed_with_their_licence(medley) -> None:
    outcome = medley("datasets", "list")
    assert outcome.code == 0
    for name in ("folder", "table", "fsdd", "speech_commands"):
        lines = outcome.out.splitlines()
        (line,) = [line for line in lines if line.strip("│ ").startswith(f"{name} ")]
        assert DATASETS.config(name).licence in line  # type: ignore[attr-defined]


def test_a_dataset_is_described_with_every_setting_and_type(medley) -> None:
    outcome = medley("datasets", "describe", "folder")
    assert outcome.code == 0
    rows = {}
    for line in outcome.out.splitlines():
        if line.startswith("│"):
            key, kind, default = (cell.strip() for cell in line.strip("│").split("│"))
            rows[key] = (kind, default)
    assert rows["root"] == ("str | None", "None")
    assert rows["test_fraction"] == ("float", "0.2")
    assert rows["extensions"][0].startswith("tuple[str, ...]")
    assert set(rows) == set(DATASETS.config("folder").model_fields)
    assert "licence: that of your data" in outcome.out
    assert "required" in medley("datasets", "describe", "table").out
    unknown = medley("datasets", "describe", "fsd")
    assert unknown.code == 2
    assert unknown.err.startswith("error: unknown dataset 'fsd'; did you mean 'fsdd'?")


def test_a_good_copy_is_ready_to_use(medley, tiny) -> None:
    outcome = medley("datasets", "check", "folder", "--root", "clips", "test_fraction=0.5")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0] == "folder (unversioned): 8 recordings"
    assert "low".ljust(5) + "".join(f"{n:>12}" for n in (2, 0, 2)) in lines
    assert "length: 0.10 to 0.13 s (1,600 to 2,080 steps at 16000 Hz)" in lines
    assert lines[-1].startswith("ready to use: 0 error(s)")
    assert not Path("runs").exists()


def test_of_cases_it_tells_of_the_pairing_and_of_each_modality(medley) -> None:
    few = ("train_patients=30", "validation_patients=2", "test_patients=3", "lacking=0.5")
    outcome = medley("datasets", "check", "synthetic_patients", *few)
    assert outcome.code == 0
    first, *lines = outcome.out.splitlines()
    assert first.startswith("synthetic_patients: ")
    assert "patients without a pair" in first
    assert sum("recordings" in line and "seed 0" in line for line in lines) == 2


def test_a_damaged_copy_is_not(medley, tiny) -> None:
    Path("clips/low/1.wav").write_bytes(b"")
    Path("clips/high/2.wav").write_bytes(Path("clips/high/2.wav").read_bytes()[:99])
    outcome = medley("datasets", "check", "folder", "--root", "clips", "--workers", "1")
    assert outcome.code == 2
    assert "error: clips/low/1.wav: empty file (0 bytes)" in outcome.out
    assert "error: clips/high/2.wav: truncated" in outcome.out
    assert outcome.err == "error: dataset 'folder': 2 error(s), listed above.\n"


# ---- config ---------------------------------------------------------------------------------


def test_a_shown_config_is_whole_and_loads_back(medley, tiny) -> None:
    words = ["learners=[finetune, joint]", "seeds=[1, 2]", "training.learning_rate=1e-5"]
    outcome = medley("config", "show", "tiny.yaml", *words)
    assert outcome.code == 0
    Path("shown.yaml").write_text(outcome.out)
    config, shown = (
        load_config(Path("tiny.yaml"), words, model=RunConfig),
        load_config(Path("shown.yaml"), model=RunConfig),
    )
    assert shown == config
    assert [c.hash for c in shown.cells()] == [c.hash for c in config.cells()]
    assert "batch_size: 32" in outcome.out
    comments = [line for line in outcome.out.splitlines() if line.startswith("#")]
    assert comments == [
        f"# folder {name} seed {seed}: runs/tiny/{cell.hash}"
        for (name, seed), cell in zip(
            [(n, s) for n in ("finetune", "joint") for s in (1, 2)], config.cells(), strict=True
        )
    ]


def test_an_experiment_may_be_named_after_a_day(medley, tiny) -> None:
    outcome = medley("config", "show", "tiny.yaml", "experiment=2026-01-31")
    assert outcome.code == 0
    assert "runs/2026-01-31/" in outcome.out


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a JSON document."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            yield from nodes(part)


def test_the_schema_is_json_schema_of_every_setting(medley) -> None:
    outcome = medley("config", "schema")
    assert outcome.code == 0
    schema = json.loads(outcome.out)
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    assert set(schema["required"]) == {"experiment", "dataset", "scenario", "learners"}
    assert schema["additionalProperties"] is False
    types = {"object", "array", "string", "integer", "number", "boolean", "null"}
    for node in nodes(schema):
        if isinstance(node.get("type"), str):
            assert node["type"] in types
        if isinstance(node.get("$ref"), str):
            here: Any = schema
            for key in node["$ref"].removeprefix("#/").split("/"):
                here = here[key]
            assert isinstance(here, dict)
    learner = schema["properties"]["learners"]["items"]
    assert learner["anyOf"][0]["enum"] == LEARNERS.names()
    replay = next(c for c in learner["anyOf"] if c.get("title") == "ReplayConfig")
    assert replay["properties"]["name"] == {"const": "replay"}
    assert replay["properties"]["memory_size"]["minimum"] == 1
    assert replay["required"] == ["name"]
