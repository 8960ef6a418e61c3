"""The README's examples run, in its order, on small recordings: each use, one after another."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

from benchmarks import cli
from benchmarks.results.files import find_results
from tests.docs_page import FENCE
from tests.toy import RATE, tone

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
CLASSES = ("dog", "horn", "rain", "siren")
# So that a test of all of them takes seconds; whatever else the page says stays as it is.
SHORT = {
    "bench": ["training.epochs=1", "seeds=[1]", "encoder={width: 16, depth: 1, heads: 2}"],
    "finetune": ["training={epochs: 1, batch_size: 8, device: cpu}"],
    "align": ["training={epochs: 1, batch_size: 8, device: cpu}"],
    "zeroshot": [],
}
NO_STORE = "tracking.store=none"


class Example(NamedTuple):
    """A block, by its language; of YAML under the name in its first line."""

    language: str
    text: str

    @property
    def name(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def commands(self) -> list[list[str]]:
        return [shlex.split(line) for line in re.findall(r"^\$ (medley .*)$", self.text, re.M)]


def examples(heading: str) -> list[Example]:
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [Example(*found) for found in FENCE.findall(section)]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    for number, name in enumerate(CLASSES):
        (tmp_path / "recordings" / name).mkdir(parents=True)
        for i in range(5):
            signal = tone(300.0 * (number + 1), 0.1 + 0.01 * i, 10 * number + i)[0]
            soundfile.write(tmp_path / "recordings" / name / f"{i}.wav", signal, RATE)
    soundfile.write(tmp_path / "more.wav", tone(300.0, 0.2, 99)[0], RATE)
    monkeypatch.chdir(tmp_path)
    for variable in ("MEDLEY_DATA", "MLFLOW_TRACKING_URI", "MEDLEY_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0, words


def shortened(words: list[str], settings: list[str]) -> list[str]:
    """The words with other settings in the place of theirs."""
    keys = {setting.partition("=")[0] for setting in settings}
    return [*(w for w in words if "=" not in w or w.partition("=")[0] not in keys), *settings]


def tables(lines: list[str]) -> list[tuple[list[str], list[str]]]:
    """The heads of the columns and the names of the rows of each table that is drawn."""
    found: list[tuple[list[str], list[str]]] = []
    for line in lines:
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if line.startswith("┏"):
            found.append(([], []))
        elif line.startswith("┃"):
            heads = found[-1][0]
            heads[:] = [
                " ".join(two).strip() for two in zip(heads or [""] * len(cells), cells, strict=True)
            ]
        elif line.startswith("│"):
            found[-1][1].append(cells[0])
    return found


def test_the_two_commands_print_such_tables(place, monkeypatch, capsys) -> None:
    """The heads, rows and last lines that are shown; the numbers are those of a longer run."""
    (block,) = (b for b in examples("Two commands") if b.language == "console")
    shown = [part.splitlines() for part in re.split(r"^\$ .*$", block.text, flags=re.M)[1:]]
    small = ["seeds=[1,2]", "dataset.train_per_class=8", "dataset.test_per_class=2", NO_STORE]
    small += ["encoder.width=16", "encoder.depth=1", "training.epochs=1"]
    small += ["scenario.num_experiences=2"]
    assert [words[1] for words in block.commands] == ["bench", "report"]
    for words, lines in zip(block.commands, shown, strict=True):
        monkeypatch.setenv("COLUMNS", "100")
        capsys.readouterr()
        run(shortened(words, small if words[1] == "bench" else []), monkeypatch)
        printed = capsys.readouterr().out.splitlines()
        assert tables(lines)
        assert tables(lines) == tables(printed)[-len(tables(lines)) :]
        assert lines[-1] in printed
    check_the_picture(place / "runs/demo", rows=len(tables(shown[0])[0][1]))
    check_the_rates_of_classes(place / "runs/demo", capsys)


def check_the_picture(runs: Path, *, rows: int) -> None:
    draw = runpy.run_path(str(ROOT / "docs/pictures/draw.py"))["draw"]
    figure = draw(runs)
    assert [axes.get_title() for axes in figure.axes] == ["", "finetune", "replay"]
    assert len(figure.axes[0].lines) == rows


def check_the_rates_of_classes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The block of docs/medical.md, beside a count of its own."""
    page = (ROOT / "docs/medical.md").read_text("utf-8")
    (block,) = (text for language, text in FENCE.findall(page) if language == "python")
    result = next(r for r in find_results(runs) if r.learner == "joint")
    script = runs / "rates.py"
    script.write_text(block.replace("runs/NAME/HASH", str(runs / result.config_hash)))
    capsys.readouterr()
    names = runpy.run_path(str(script))
    assert capsys.readouterr().out
    pairs = [
        (true, said)
        for true, row in enumerate(result.metrics["confusion_matrix"])
        for said, number in enumerate(row)
        for _ in range(number)
    ]
    for own in range(len(result.metrics["confusion_matrix"])):
        with_it = [said == own for true, said in pairs if true == own]
        without = [said != own for true, said in pairs if true != own]
        assert names["sensitivity"][own] == pytest.approx(sum(with_it) / len(with_it))
        assert names["specificity"][own] == pytest.approx(sum(without) / len(without))


def test_one_example_for_each_use(place, monkeypatch, capsys) -> None:
    blocks = examples("One example for each use")
    used = [words[1] for block in blocks for words in block.commands]
    assert used == ["bench", "finetune", "align", "zeroshot"]
    for block in blocks:
        if block.language == "yaml":
            (place / block.name).write_text(block.text)
        for words in block.commands:
            run(shortened(words, [*SHORT[words[1]], NO_STORE]), monkeypatch)
        if block.language == "python":
            chosen = max(place.glob("runs/tuned/*/result.json")).parent
            (place / "lines.py").write_text(block.text.replace("runs/NAME/HASH", str(chosen)))
            capsys.readouterr()
            runpy.run_path(str(place / "lines.py"))
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) == len(CLASSES) * 5 + 1
            assert {line.split()[1] for line in lines} <= set(CLASSES)
    found = {(r.experiment, r.learner) for r in find_results(place / "runs")}
    assert {("own_folder", "replay"), ("own_folder", "joint")} <= found
    assert {("tuned", "head"), ("tuned", "lora"), ("words", "clip"), ("words", "cwcl")} <= found
    assert sum(experiment == "words_zero_shot" for experiment, _ in found) == 2
