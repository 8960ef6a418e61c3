"""``medley predict``: tables, damaged files, windows, resumption, bad input."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import torch

from benchmarks import load_model
from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.model import Model, Predicted
from benchmarks.commands.predict.opened import Answer, Opened
from multimodal.batch import Batch
from multimodal.errors import UserError
from tests.toy import RATE, tone


@pytest.fixture
def run(medley, tiny) -> Path:
    """The folder of a finished run of ``medley bench`` on two pitches."""
    assert medley("bench", "tiny.yaml", "training.epochs=12").code == 0
    (file,) = tiny.glob("runs/tiny/*/result.json")
    return file.parent


@pytest.fixture
def new(tiny) -> Path:
    """A folder of files that no run has seen: two tones, a damaged file, a note."""
    folder = tiny / "new"
    (folder / "below").mkdir(parents=True)
    soundfile.write(folder / "a.wav", tone(300, 0.2, 91)[0], RATE)
    soundfile.write(folder / "below" / "b.wav", tone(600, 0.25, 92)[0], RATE)
    (folder / "damaged.wav").write_bytes(b"no sound")
    (folder / "note.txt").write_text("what these are")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_damaged_file_has_its_row_and_the_others_are_kept(medley, run, new) -> None:
    outcome = medley("predict", str(run), "new", "--out", "found.csv")
    assert outcome.code == 2
    assert "1 of 3" in outcome.err
    rows = table(new.parent / "found.csv")
    assert [row["file"] for row in rows] == ["new/a.wav", "new/damaged.wav", "new/below/b.wav"]
    assert "damaged.wav" in rows[1]["error"]
    assert rows[1]["class"] == rows[1]["probability"] == ""
    for row in (rows[0], rows[2]):
        shares = {k[2:]: float(v) for k, v in row.items() if k.startswith("p_")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["class"] == max(shares, key=lambda name: shares[name])
        assert float(row["probability"]) == shares[row["class"]]
        assert row["top"].startswith(row["class"])
    assert not (new.parent / "found.csv.partial").exists()


def test_all_tables_say_the_same(medley, run, new) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        assert medley("predict", str(run), "new", "--out", f"found.{kind}").code == 2
    printed = medley("predict", str(run), "new")
    place = new.parent
    assert printed.out == (place / "found.csv").read_text()
    lines = [json.loads(line) for line in (place / "found.jsonl").open()]
    columns = pyarrow.parquet.read_table(place / "found.parquet").to_pylist()
    for row, line, column in zip(table(place / "found.csv"), lines, columns, strict=True):
        assert row["file"] == line["file"] == column["file"]
        assert (row["class"] or None) == line["class"] == column["class"]
        assert (row["error"] or None) == line["error"] == column["error"]
        for name, share in line["probabilities"].items():
            assert float(row[f"p_{name}"]) == share == column[f"p_{name}"]


def test_texts_are_kept_and_one_that_names_no_class_leaves_it_empty(
    medley, run, new, monkeypatch
) -> None:
    """-1 is no class, above all not the last one. After a stop, too."""
    opened = load_model(run)._opened

    def answer(batch: Batch) -> Answer:
        short = (batch.lengths < 0.22 * RATE).tolist()  # a.wav
        texts = ["mumble" if is_a else "" for is_a in short]
        labels = torch.tensor([-1 if is_a else 0 for is_a in short])
        return Answer(labels, torch.full((len(batch), 2), 0.5), texts)

    def writes(path: Path, device: object, asked: object) -> Opened:
        return replace(opened, answer=answer)

    monkeypatch.setattr("benchmarks.commands.predict.model.open_model", writes)
    for kind in ("csv", "jsonl", "parquet"):
        assert medley("predict", str(run), "new", "--out", f"found.{kind}").code == 2
    place = new.parent
    rows = table(place / "found.csv")
    assert [(row["class"], row["text"]) for row in rows] == [
        *(("", "mumble"), ("", "")),
        (opened.class_names[0], ""),
    ]
    columns = pyarrow.parquet.read_table(place / "found.parquet").to_pylist()
    lines = [json.loads(line) for line in (place / "found.jsonl").open()]
    for found in (columns, [{"text": None, **line} for line in lines]):
        told = [(row["class"], row["probability"], row["text"]) for row in found]
        assert told == [(None, None, "mumble"), (None, None, None), (rows[2]["class"], 0.5, "")]
    assert [bool(row["error"]) for row in rows] == [False, True, False]


def test_a_stopped_run_goes_on_and_names_nothing_twice(medley, run, new, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.commands.predict.model.AT_ONCE", 1)
    named: list[Path] = []
    answers = Model._answers

    def counting(self: Model, pieces: list[Part], *rest: object) -> dict[Part, Predicted]:
        if len(named) == 2:
            named.append(Path("stop"))
            raise KeyboardInterrupt
        named.extend(piece.path for piece in pieces)
        return answers(self, pieces, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Model, "_answers", counting)
    words = ("predict", str(run), "new", "--out", "found.csv")
    assert medley(*words).code == 130
    partial = new.parent / "found.csv.partial"
    with partial.open("ab") as file:
        file.write(b'{"part": ["new/bel')  # killed while it wrote
    outcome = medley(*words)
    assert outcome.code == 2
    assert "1 of 3 were done before" in outcome.err  # an error is not done
    names = ["a.wav", "damaged.wav", "stop", "damaged.wav", "b.wav"]
    assert [path.name for path in named] == names
    stopped = (new.parent / "found.csv").read_text()
    assert medley(*words, "--overwrite").code == 2
    assert (new.parent / "found.csv").read_text() == stopped


def test_what_is_there_is_not_replaced(medley, run, new) -> None:
    out = new.parent / "found.csv"
    out.write_text("mine")
    outcome = medley("predict", str(run), "new", "--out", "found.csv")
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert out.read_text() == "mine"
    (new.parent / "other.csv.partial").write_text('{"model": "another"}\n')
    outcome = medley("predict", str(run), "new", "--out", "other.csv")
    assert "another model" in outcome.err
    (new.parent / "other.csv.partial").write_text("no JSON\n")
    assert "damaged" in medley("predict", str(run), "new", "--out", "other.csv").err


def test_tables_and_windows_name_parts_of_files(medley, run, new) -> None:
    sound = np.concatenate([tone(300, 0.2, 1)[0], tone(600, 0.25, 2)[0]])
    soundfile.write(new / "long.wav", sound, RATE)
    (new / "parts.csv").write_text("path,start,duration\nlong.wav,0,0.2\nlong.wav,0.2,\n")
    model = load_model(run)
    parts = model.predict(new / "parts.csv")
    assert [(row.start, row.seconds) for row in parts] == [(0.0, 0.2), (0.2, None)]
    soundfile.write(new / "second.wav", tone(600, 0.25, 2)[0], RATE)
    (alone,) = model.predict(new / "second.wav")
    for name, share in alone.probabilities.items():
        assert parts[1].probabilities[name] == pytest.approx(share, abs=1e-4)
    windows = model.predict(new / "long.wav", window=0.2, hop=0.1)
    assert [(row.start, row.seconds) for row in windows] == [(0, 0.2), (0.1, 0.2), (0.2, 0.2)]
    assert windows[0].probabilities == pytest.approx(parts[0].probabilities, abs=1e-5)
    (short,) = model.predict(new / "a.wav", window=5.0)
    assert (short.start, short.seconds) == (0.0, None)


def test_a_recording_far_longer_than_those_of_the_training_has_an_error(run, new) -> None:
    soundfile.write(new / "hour.wav", np.tile(tone(300, 1.0, 1)[0], 9), RATE)
    model = load_model(run)
    (row,) = model.predict(new / "hour.wav")
    assert "lasts 9 s" in row.error
    assert "--window" in row.error
    assert all(not row.error for row in model.predict(new / "hour.wav", window=0.5))


def test_aligned_models_choose_among_any_classes(medley, tones, new) -> None:
    assert medley("align", "align.yaml").code == 0
    folder = next(tones.glob("runs/tones/*/result.json")).parent
    own = load_model(folder)
    rows = own.predict([new / "a.wav", new / "below"])
    assert {row.label for row in rows} <= set(own.class_names)
    asked = load_model(folder, classes=["a high tone", "a low tone", "silence"])
    (row,) = asked.predict(new / "a.wav")
    assert list(row.probabilities) == ["a high tone", "a low tone", "silence"]
    assert sum(row.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert row.top(1)[0][0] == row.label
    outcome = medley("predict", str(folder), "new/a.wav", "--classes", "yes,no")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("file,start,seconds,class,probability,top,p_yes,p_no,error\n")


def test_bad_input_has_one_line(medley, run, new) -> None:
    def line(*words: str) -> str:
        outcome = medley("predict", *words)
        assert outcome.code == 2
        errors = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
        assert len(errors) == 1, outcome.err
        return errors[0]

    place = new.parent
    (place / "empty").mkdir()
    (place / "bad.csv").write_text("file\na.wav\n")
    (place / "worse.csv").write_text("path,start\na.wav,soon\n")
    (place / "x.png").write_bytes(b"")
    own = str(run)
    assert "holds no finished run" in line("new", "new/a.wav")
    assert "is not a folder" in line("nowhere", "new/a.wav")
    assert "no file that the model reads" in line(own, "empty")
    assert "no column 'path'" in line(own, "bad.csv")
    assert "start 'soon'" in line(own, "worse.csv")
    assert "modality xray" in line(own, "x.png")
    assert "unknown kind of table" in line(own, "new", "--out", "found.xls")
    assert "make it first" in line(own, "new", "--out", "no/found.csv")
    assert "--classes and --view are for models" in line(own, "new", "--classes", "a,b")
    # What is refused leaves nothing behind that would stop the right command.
    assert "modality xray" in line(own, "x.png", "--out", "found.csv")
    assert "give a window" in line(own, "new", "--out", "found.csv", "--hop", "1")
    assert not list(place.glob("found*"))
    assert "device='tpu'" in line(own, "new", "--device", "tpu")
    assert "give a window" in line(own, "new", "--hop", "1")
    assert "window=-1.0" in line(own, "new", "--window", "-1")
    row = medley("predict", own, "new/absent.wav")
    assert row.code == 2
    assert "absent.wav" in row.out


def test_folders_that_hold_no_model_say_so(medley, run, new) -> None:
    assert medley("bench", "tiny.yaml", "seeds=[2]").code == 0
    outcome = medley("predict", str(run.parent), "new")
    assert "several runs" in outcome.err
    assert run.name in outcome.err
    shutil.rmtree(run / "models")
    with pytest.raises(UserError, match="log_models"):
        load_model(run)
    file = run / "result.json"
    file.write_text(file.read_text().replace("finetune", "er"))
    with pytest.raises(UserError, match="damaged"):
        load_model(run)


def test_weights_beside_another_frozen_encoder_are_refused(medley, tiny, new) -> None:
    """What was never trained is not in the file of a learner in closed form."""
    words = ("bench", "tiny.yaml", "learners=[slda]", "encoder.train=none")
    assert medley(*words).code == 0
    folder = next(tiny.glob("runs/tiny/*/result.json")).parent
    assert load_model(folder).predict(new / "a.wav")[0].error == ""
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("seeds:\n- 1", "seeds:\n- 2"))
    with pytest.raises(UserError, match="other frozen weights"):
        load_model(folder)


def test_the_lines_of_the_readme_run(run, new, tiny, monkeypatch, capsys) -> None:
    text = (Path(__file__).parents[4] / "README.md").read_text("utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "load_model" in b)
    monkeypatch.chdir(tiny)
    new.rename(tiny / "recordings")
    soundfile.write(tiny / "more.wav", tone(300, 0.2, 5)[0], RATE)
    script = tiny / "lines.py"
    script.write_text(block.replace("runs/NAME/HASH", str(run)))
    capsys.readouterr()
    runpy.run_path(str(script))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("more.wav ")
