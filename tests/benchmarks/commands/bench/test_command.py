"""``medley bench`` and ``medley report`` from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config
from tests.toy import toy_data


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_benchmark_from_start_to_report(medley, tiny) -> None:
    words = ["bench", "tiny.yaml", "learners=[finetune, majority]"]
    first = medley(*words)
    assert first.code == 0
    assert "Report: runs/tiny/report.html" in first.out
    for name in ("finetune", "majority"):
        assert re.search(rf"│ {name} +│ +[0-9.]+ │", first.out)
        assert first.err.count(f"{name} seed 1: experience 2/2  test accuracy %") == 1
    cells = load_config(Path("tiny.yaml"), words[2:], model=RunConfig).cells()
    for cell in cells:
        assert cell.folder == Path("runs/tiny") / cell.hash
        for file in ("config.yaml", "result.json", "metrics.jsonl", "report.html"):
            assert (cell.folder / file).stat().st_size > 0, file
        assert load_config(cell.folder / "config.yaml", model=RunConfig).hash == cell.hash
        assert json.loads((cell.folder / "result.json").read_text())["config_hash"] == cell.hash
    assert Path("runs/tiny/report.html").read_text().lower().startswith("<!doctype html>")

    before = contents(Path("runs"))
    again = medley(*words)
    assert again.code == 0
    assert again.err.count("done before, result reused") == 2
    assert "test accuracy" not in again.err
    assert table(again.out) == table(first.out)
    assert contents(Path("runs")) == before

    (cells[0].folder / "note.txt").touch()
    fresh = medley(*words, "--fresh")
    assert fresh.code == 0
    assert "done before" not in fresh.err
    assert not (cells[0].folder / "note.txt").exists()
    name = str(cells[0].folder / "result.json")
    old, new = json.loads(before[name]), json.loads(contents(Path("runs"))[name])
    assert old["started"] < new["started"]
    assert old["metrics"] == new["metrics"]


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("│")]


def test_a_report_of_what_was_run(medley, tiny) -> None:
    assert medley("bench", "tiny.yaml", "seeds=[1,2]").code == 0
    Path("runs/tiny/report.html").unlink()
    hash_ = load_config(Path("tiny.yaml"), model=RunConfig).hash
    assert hash_ in {p.name for p in Path("runs/tiny").iterdir()}
    for words, page, seeds in (
        (["report"], "runs/tiny/report.html", 2),
        (["report", "runs/tiny"], "runs/tiny/report.html", 2),
        (["report", f"runs/tiny/{hash_}"], f"runs/tiny/{hash_}/report.html", 1),
    ):
        outcome = medley(*words)
        assert outcome.code == 0
        (row,) = table(outcome.out)
        assert row.split("│")[-3].strip() == str(seeds)
        assert f"Report: {page}" in outcome.out
        assert Path(page).is_file()


def test_a_folder_in_brackets_is_shown_whole(medley, tiny) -> None:
    outcome = medley("bench", "tiny.yaml", "output_dir=out[a]")
    assert outcome.code == 0
    assert "Report: out[a]/tiny/report.html" in outcome.out


def write_two(folder: Path) -> None:
    folder.mkdir()
    for name, classes in (("a", 4), ("b", 2)):
        changes = {"dataset": {"name": "toy", "num_classes": classes}}
        text = yaml.safe_dump(toy_data(experiment="both", **changes))
        (folder / f"{name}.yaml").write_text(text)


def test_a_folder_of_configs_is_one_table(medley, tmp_path) -> None:
    write_two(folder := tmp_path / "both")
    outcome = medley("bench", str(folder), "training.epochs=1", "learners=[majority]")
    assert outcome.code in (0, None), outcome.err
    assert outcome.out.count("majority") == 2
    assert outcome.out.count("Report: ") == 1
    (empty := tmp_path / "empty").mkdir()
    assert "no YAML file" in medley("bench", str(empty)).err
    shown = medley("config", "show", str(folder))
    assert shown.code == 0
    assert shown.out.count("# toy finetune seed 1: ") == 2


def test_fresh_clears_nothing_of_a_folder_before_all_of_it_is_checked(medley, tmp_path) -> None:
    write_two(folder := tmp_path / "both")
    assert medley("bench", str(folder), "training.epochs=1", "learners=[majority]").code == 0
    kept = {name for name in contents(Path("runs")) if name.endswith("result.json")}
    assert len(kept) == 2
    (folder / "c.yaml").write_text(yaml.safe_dump(toy_data(dataset="esc10", modality="audio")))
    words = ["training.epochs=1", "learners=[majority]", "data_root=nowhere", "--fresh"]
    assert medley("bench", str(folder), *words).code == 2
    assert kept <= set(contents(Path("runs")))
