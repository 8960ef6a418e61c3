"""A user's table of recordings, in four file formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from multimodal.datasets import DATASETS
from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError

ROWS = [
    {"path": "b.wav", "label": "10", "split": "Test", "who": "ann", "said": 'ten, "really"'},
    {"path": "sub/a.wav", "label": "9", "split": "TRAINING", "who": "bob", "said": ""},
    {"path": "c,d.wav", "label": "NA", "split": "dev", "who": "", "said": "none"},
    {"path": "e.wav", "label": "none", "split": "eval", "who": "ann", "said": "null"},
]


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.zeros(8, dtype=np.float32), 8000)


def write_table(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write(folder, *[row["path"] for row in ROWS])
    return folder


def build(root: Path, text: str, **settings):
    (root / "t.csv").write_text(text, encoding="utf-8")
    return TableConfig(file="t.csv", **settings).build(root)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_all_columns(root: Path, suffix: str) -> None:
    write_table(root / f"t{suffix}", ROWS)
    config = TableConfig(file=f"t{suffix}", group_column="who", text_column="said", modality="xray")
    manifest = config.build(root)
    assert DATASETS.config("table") is TableConfig
    assert manifest.class_names == ("9", "10", "NA", "none")
    found = {
        r.uid: (manifest.class_names[r.label], r.split, r.group, r.text, r.path) for r in manifest
    }
    split = {"Test": "test", "TRAINING": "train", "dev": "validation", "eval": "test"}
    assert found == {
        row["path"]: (
            row["label"],
            split[row["split"]],
            row["who"],
            row["said"],
            root / row["path"],
        )
        for row in ROWS
    }
    assert manifest.modality == "xray"
    assert manifest.split_rule == "named by column 'split'"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_slots(root: Path, suffix: str) -> None:
    cells = ['{"object": "lights", "location": "kitchen"}', "", '[["a", "b"], ["a", "c"]]', "{}"]
    rows = [{**row, "what": cell} for row, cell in zip(ROWS, cells, strict=True)]
    write_table(root / f"t{suffix}", rows)
    plain, config = (
        TableConfig(file=f"t{suffix}"),
        TableConfig(file=f"t{suffix}", slots_column="what"),
    )
    found = {r.uid: r.slots for r in config.build(root)}
    assert list(map(found.get, [row["path"] for row in ROWS])) == [
        (("object", "lights"), ("location", "kitchen")),
        (),
        (("a", "b"), ("a", "c")),
        (),
    ]
    assert plain.build(root).slots is None
    assert "slots_column" not in plain.dump()
    assert DATASETS.parse(config.dump()) == config


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_slots_that_are_no_text(root: Path, suffix: str) -> None:
    """As other programs write them: an object in JSON lines, a struct in Parquet."""
    cells = [{"object": "lights"}, None, {"object": "lamp", "location": "bedroom"}, None]
    rows = [{**row, "what": cell} for row, cell in zip(ROWS, cells, strict=True)]
    write_table(root / f"t{suffix}", rows)
    manifest = TableConfig(file=f"t{suffix}", slots_column="what").build(root)
    assert manifest.slots is not None
    assert sorted(manifest.slots) == [
        (),
        (),
        (("object", "lamp"), ("location", "bedroom")),
        (("object", "lights"),),
    ]


def test_bad_slots(root: Path) -> None:
    text = 'path,label,split,what\nb.wav,a,test,\ne.wav,a,train,"{""n"": 7}"\n'
    words = r"""t\.csv, data row 2: what '\{"n": 7\}' holds no pairs of texts; write \{"loc"""
    with pytest.raises(UserError, match=words):
        build(root, text, slots_column="what")
    with pytest.raises(UserError, match=r"slots_column 'slots' is not in the table; columns: path"):
        build(root, text, slots_column="slots")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_numeric_labels_become_text(root: Path, suffix: str) -> None:
    rows = [{"path": row["path"], "label": 12 - i} for i, row in enumerate(ROWS)]
    write_table(root / f"t{suffix}", [*rows])
    write(root, *[f"x{i}.wav" for i in range(4)])
    rows += [{"path": f"x{i}.wav", "label": 12 - i} for i in range(4)]
    write_table(root / f"t{suffix}", rows)
    manifest = TableConfig(file=f"t{suffix}").build(root)
    assert manifest.class_names == ("9", "10", "11", "12")


def test_seeded_split_where_the_column_is_absent(root: Path) -> None:
    write(root, *[f"{i}.wav" for i in range(20)])
    lines = [f"{i}.wav,{'ab'[i % 2]},s{i // 4}" for i in range(20)]
    manifest = build(root, "\n".join(["path,label,who", *lines]), seed=3)
    assert len(manifest.indices("test")) == 4
    again = build(root, "\n".join(["path,label,who", *reversed(lines)]), seed=3)
    assert [(r.uid, r.split) for r in manifest] == [(r.uid, r.split) for r in again]
    grouped = build(root, "\n".join(["path,label,who", *lines]), group_column="who")
    assert len(set(grouped.groups[grouped.indices("test")])) == 1
    assert grouped.split_rule == "seeded: groups of column 'who', test_fraction 0.2, seed 0"
    ignored = build(root, "path,label,split\nb.wav,a,test\ne.wav,a,test\n", split_column=None)
    assert sorted(ignored.splits) == ["test", "train"]


def test_byte_order_mark_quotes_spaces_and_blank_lines(root: Path) -> None:
    text = '\ufeffpath, label ,split\n"c,d.wav", x ,train\n\ne.wav,x,test\n'
    manifest = build(root, text)
    assert [(r.uid, r.split) for r in manifest] == [("c,d.wav", "train"), ("e.wav", "test")]
    assert manifest.class_names == ("x",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\nb.wav,a\n", r"path_column 'path' is not in the table; columns: file, label"),
        ("path,label\nb.wav,\n", "data row 1: label is empty"),
        ("path,label,split\nb.wav,a,test\n ,a,train\n", "data row 2: path is empty"),
        ("path,label,split\nb.wav,a,\n", "data row 1: split is empty"),
        ("path,label,split\nb.wav,a,tset\n", "split 'tset' is no split; valid: train, training"),
        ("path,label,split\nb.wav,a,test\n./b.wav,a,test\n", "row 2: .* already in data row 1"),
        ("path,label\nb.wav,a\nnope.wav,a\n", r"row 2: path 'nope.wav' does not exist .*1 of 2"),
        ("path,label\n../x.wav,a\n", "data row 1: path '../x.wav' leads out of the data root"),
        ("path,label\n/etc/passwd,a\n", "path '/etc/passwd' leads out of the data root"),
        ("path,label\n\0,a\n", "leads out of the data root|cannot be read"),
        ("path,label\nc,d.wav,a\n", "data row 1: 3 cells for 2 columns.*double quotes"),
        ('path,label\n"b.wav,a\n', "cannot be read as a table"),
        ("path,label,label\nb.wav,a,a\n", "a column name occurs twice"),
        ("path,label\n", "has no rows"),
        ("", "is empty; its first line must name the columns"),
        ("path,label\nb.wav,a\n", "class 'a' has only one recording"),
        ("path,label,split\nb.wav,a,sub\n", "'sub' is no split"),
        ("path,label,split\nsub,a,test\n", "path 'sub' does not exist"),
        (f"path,label,split\n{'long ' * 200},a,test\n", "path 'long long .* does not exist"),
    ],
)
def test_bad_csv(root: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(root, text)


def test_every_missing_column_is_reported_at_once(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        build(
            root,
            "a,b\n1,2\n",
            group_column="speaker",
            text_column="said",
            split_column="part",
        )
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == [
        "path_column",
        "label_column",
        "group_column",
        "text_column",
        "split_column",
    ]


@pytest.mark.parametrize("file", ["../t.csv", "sub/../../t.csv"])
def test_table_outside_the_root(root: Path, file: str) -> None:
    (root.parent / "t.csv").write_text("path,label\nb.wav,a\n")
    with pytest.raises(UserError, match="leads out of the data root"):
        TableConfig(file=file).build(root)
    with pytest.raises(UserError, match="leads out of the data root"):
        TableConfig(file=str(root.parent / "t.csv")).build(root)


def test_absolute_paths_inside_the_root(root: Path) -> None:
    text = f"path,label,split\n{root / 'b.wav'},a,test\n{root / 'e.wav'},a,train\n"
    (root / "t.csv").write_text(text)
    manifest = TableConfig(file=str(root / "t.csv")).build(root)
    assert [r.uid for r in manifest] == ["b.wav", "e.wav"]


def test_links_out_of_the_root_are_refused(root: Path) -> None:
    write(root.parent, "secret.wav")
    (root / "link.wav").symlink_to(root.parent / "secret.wav")
    (root / "inner.wav").symlink_to(root / "b.wav")
    (root / "ring.wav").symlink_to(root / "ring.wav")
    with pytest.raises(UserError, match=r"'ring.wav' leads out of the data root"):
        build(root, "path,label,split\nring.wav,a,test\n")
    with pytest.raises(UserError, match=r"'link.wav' leads out of the data root"):
        build(root, "path,label,split\nlink.wav,a,test\n")
    assert build(root, "path,label,split\ninner.wav,a,test\n").recordings[0].uid == "inner.wav"


def test_leak_between_named_splits(root: Path) -> None:
    with pytest.raises(UserError, match=r"both sides of a split \(ann\)"):
        build(
            root, "path,label,split,who\nb.wav,a,test,ann\ne.wav,a,train,ann\n", group_column="who"
        )


def test_relative_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "t.csv").write_text("path,label,split\nb.wav,a,test\n")
    monkeypatch.chdir(root.parent)
    assert TableConfig(file="t.csv").build(Path("data")).recordings[0].path == Path("data/b.wav")


def test_bad_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*'t.csv'"):
        TableConfig(file="t.csv").build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"t\.csv does not exist; file is relative to root"):
        TableConfig(file="t.csv").build(root)
    with pytest.raises(UserError, match=r"unknown kind of table; valid: \.csv, \.tsv, \.jsonl"):
        TableConfig(file="b.wav").build(root)
    (root / "t.csv").write_bytes("path,label\nb.wav,ü\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"t\.csv is not UTF-8 text"):
        TableConfig(file="t.csv").build(root)
    (root / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"t\.parquet cannot be read as Parquet"):
        TableConfig(file="t.parquet").build(root)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{bad", "data row 2 is not JSON"),
        ("[1]", "data row 2 is not a JSON object"),
        ('{"path": "e.wav", "label": ["x"]}', "data row 2: label is a list"),
        ('{"path": "e.wav", "label": null}', "data row 2: label is empty"),
        ('{"path": "e.wav", "label": NaN}', "data row 2: label is empty"),
        ('{"path": "e.wav"}', "data row 2: it has no 'label'"),
    ],
)
def test_bad_jsonl(root: Path, line: str, words: str) -> None:
    (root / "t.jsonl").write_text('{"path": "b.wav", "label": "x"}\n' + line)
    with pytest.raises(UserError, match=words):
        TableConfig(file="t.jsonl").build(root)


def test_parse_and_dump_round_trip() -> None:
    config = TableConfig.parse({"file": "t.csv", "split_column": None, "test_fraction": 0.5})
    assert DATASETS.parse(config.dump()) == config
    with pytest.raises(ValueError, match="file"):
        TableConfig.parse({})
