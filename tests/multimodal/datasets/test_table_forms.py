"""Tables as people have them: several files, several labels, groups in names, files that lack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from multimodal.check import check
from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest

NAMES = [f"{who}_{i}.wav" for who in ("ann", "bob", "eve") for i in range(4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in [*NAMES, "train/a.wav", "Val/b.wav", "test/c.wav"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(800), 8000)
    return tmp_path


def build(root: Path, text: str | Mapping[str, str], **settings: Any) -> Manifest:
    files = {"t.csv": text} if isinstance(text, str) else text
    for name, content in files.items():
        (root / name).write_text(content)
    names = settings.pop("file", "t.csv" if isinstance(text, str) else list(files))
    return TableConfig.parse({"file": names, **settings}).build(root)


def found(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    return {r.uid: tuple(manifest.class_names[c] for c in r.labels) for r in manifest}


# ---- several files ---------------------------------------------------------------------------


def test_files_name_their_splits(root: Path) -> None:
    parts = {
        "my-train.csv": "path,label\nann_0.wav,a\nann_1.wav,b\n",
        "Val_2.csv": "label,path\na,bob_0.wav\n",
        "test.jsonl": '{"path": "eve_0.wav", "label": "b"}\n',
    }
    manifest = build(root, parts)
    assert {r.uid: r.split for r in manifest} == {
        "ann_0.wav": "train",
        "ann_1.wav": "train",
        "bob_0.wav": "validation",
        "eve_0.wav": "test",
    }
    assert manifest.split_rule == "named by the tables' files"
    assert found(manifest)["bob_0.wav"] == ("a",)


def test_a_column_of_splits_wins_over_the_files_names(root: Path) -> None:
    parts = {
        "train.csv": "path,label,split\nann_0.wav,a,test\n",
        "test.csv": "path,label,split\nann_1.wav,a,train\n",
    }
    manifest = build(root, parts)
    assert {r.uid: r.split for r in manifest} == {"ann_0.wav": "test", "ann_1.wav": "train"}
    assert build(root, parts, split_column=None).split_rule.startswith("seeded")


def test_files_without_splits_are_one_table(root: Path) -> None:
    text = "path,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(NAMES))
    lines = text.splitlines(keepends=True)
    whole = build(root, text)
    parts = build(root, {"one.csv": "".join(lines[:5]), "two.csv": lines[0] + "".join(lines[5:])})
    assert parts == whole
    assert parts.content_hash == whole.content_hash
    lone = build(root, {"train.csv": text})  # one file is the table, whatever its name
    assert list(lone) == list(whole)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (("other.csv", "path,label\nbob_0.wav,a\n"), "other.csv names no split"),
        (("train_test.csv", "path,label\nbob_0.wav,a\n"), "names test and train"),
        (
            ("test.csv", "path,label\nann_0.wav,a\n"),
            r"test.csv, data row 1: .*already in .*train.c",
        ),
        (("test.csv", "path,label\nbob_0.wav,\n"), r"test\.csv, data row 1: label is empty"),
        (
            ("test.csv", "path,Label\nbob_0.wav,a\n"),
            r"test\.csv: label_column 'label' is in .* not in this one; did you mean 'Label'\?",
        ),
        (("test.csv", "path,label\n"), r"test\.csv has no rows"),
        (("../test.csv", "path,label\n"), "leads out of the data root"),
    ],
)
def test_bad_second_files(root: Path, second: tuple[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(root, {"train.csv": "path,label\nann_0.wav,a\nann_1.wav,a\n", second[0]: second[1]})


def test_a_list_of_no_files_is_refused() -> None:
    with pytest.raises(ValidationError, match="file"):
        TableConfig.parse({"file": []})


def test_splits_in_paths(root: Path) -> None:
    text = "path,label\ntrain/a.wav,x\nVal/b.wav,x\ntest/c.wav,x\n"
    manifest = build(root, text, split_pattern="^([A-Za-z]+)/")
    assert [r.split for r in manifest] == ["validation", "test", "train"]
    with pytest.raises(UserError, match=r"split_pattern '\^\(b\)' finds no split in 'train/a.wav'"):
        build(root, text, split_pattern="^(b)")


# ---- several labels --------------------------------------------------------------------------

SEPARATED = "path,label,split\nann_0.wav,dog|cat,train\nbob_0.wav, cat ,test\neve_0.wav,,test\n"
COLUMNS = """path,dog,cat,split
ann_0.wav,1,1.0,train
bob_0.wav,0,true,test
eve_0.wav,,0.0,test
"""


def test_both_forms_of_several_labels_are_the_same(root: Path) -> None:
    one = build(root, SEPARATED, label_separator="|")
    two = build(root, COLUMNS, label_columns=["cat", "dog"])
    assert one == two
    assert one.class_names == ("cat", "dog")
    assert found(one) == {
        "ann_0.wav": ("cat", "dog"),
        "bob_0.wav": ("cat",),
        "eve_0.wav": (),
    }
    assert one.multi_label
    assert one.content_hash == two.content_hash


def test_lists_of_labels(root: Path) -> None:
    data = {"ann_0.wav": {"label": ["dog", "cat"], "split": "train"}}
    data |= {"bob_0.wav": {"label": "cat", "split": "test"}}
    data |= {"eve_0.wav": {"label": [], "split": "test"}}
    (root / "t.json").write_text(json.dumps(data))
    config = TableConfig(file="t.json", label_separator="|")
    assert config.build(root) == build(root, SEPARATED, label_separator="|")
    with pytest.raises(UserError, match=r"label is a list; .*Set label_separator"):
        TableConfig(file="t.json").build(root)
    data["bob_0.wav"]["label"] = [{}]  # type: ignore[assignment]
    (root / "t.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"data row 2: label \[\{\}\] holds no labels"):
        config.build(root)


POLICIES = {
    "u_zeros": (("cat",), (), ("cat", "dog"), 3),
    "u_ones": (("cat", "dog"), (), ("cat", "dog"), 3),
    "u_ignore": (("cat",), ("dog",), ("cat", "dog"), 3),
    "u_multi": (
        ("cat", "dog (uncertain)"),
        (),
        ("cat", "dog", "cat (uncertain)", "dog (uncertain)"),
        3,
    ),
    "u_drop": (None, None, ("cat", "dog"), 2),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mark", ["-1", "-1.0", "u", "Uncertain"])
def test_uncertain_values(root: Path, policy: str, mark: str) -> None:
    text = COLUMNS.replace("ann_0.wav,1", f"ann_0.wav,{mark}")
    manifest = build(root, text, label_columns=["cat", "dog"], uncertain=policy)
    present, unknown, classes, count = POLICIES[policy]
    assert manifest.class_names == classes
    assert len(manifest) == count
    if present is not None:
        row = manifest.recordings[0]
        assert tuple(classes[c] for c in row.labels) == present
        assert tuple(classes[c] for c in row.unknown) == unknown
    else:
        assert manifest.notes == ("1 of 3 rows are uncertain and were left out",)


def test_a_policy_is_asked_for_and_values_are_checked(root: Path) -> None:
    with pytest.raises(
        UserError, match=r"row 1: dog is uncertain \('-1'\); .*u_zeros, u_ones, u_m"
    ):
        build(root, COLUMNS.replace("wav,1,", "wav,-1,"), label_columns=["cat", "dog"])
    with pytest.raises(UserError, match=r"row 1: dog is '2'; a column of label_columns holds 1"):
        build(root, COLUMNS.replace("wav,1,", "wav,2,"), label_columns=["cat", "dog"])
    with pytest.raises(UserError, match=r"label_columns 'cow' is not in the table"):
        build(root, COLUMNS, label_columns=["cat", "cow"])


def test_numbers_and_gaps_of_parquet_are_marks(root: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"path": NAMES[:4], "split": ["train", "test"] * 2}
    columns |= {"a": [1, 0, None, 1], "b": [1.0, float("nan"), -1.0, 0.0]}  # type: ignore[dict-item]
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "t.parquet")
    config = TableConfig(file="t.parquet", label_columns=("a", "b"), uncertain="u_ones")
    assert list(found(config.build(root)).values()) == [("a", "b"), (), ("b",), ("a",)]


def test_a_drawn_split_of_several_labels(root: Path) -> None:
    """Each class that can stands on both sides; one that is rare stays in train."""
    labels = ["a|b", "b", "a", "c|a", "", "", "b", "a|b", "b|c", "a", "c", "rare|a"]
    rows = "".join(f"{name},{own}\n" for name, own in zip(NAMES, labels, strict=True))
    manifest = build(root, f"path,label\n{rows}", label_separator="|", test_fraction=0.4)
    sides = {split: set() for split in ("train", "test")}
    for r in manifest:
        sides[r.split] |= {manifest.class_names[c] for c in r.labels} or {""}
    assert sides == {"train": {"a", "b", "c", "rare", ""}, "test": {"a", "b", "c", ""}}
    grouped = build(
        root,
        f"path,label\n{rows}",
        label_separator="|",
        group_pattern="^([a-z]+)_",
        test_fraction=0.4,
    )
    assert {r.group for r in grouped} == {"ann", "bob", "eve"}
    assert len({(r.group, r.split) for r in grouped}) == 3


# ---- groups and files ------------------------------------------------------------------------


def test_groups_in_names_are_those_of_a_column(root: Path) -> None:
    rows = [f"{name},{'ab'[i % 2]},{name[:3]}\n" for i, name in enumerate(NAMES)]
    text = "path,label,who\n" + "".join(rows)
    named = build(root, text, group_pattern="^([a-z]+)_")
    column = build(root, text, group_column="who")
    assert list(named) == list(column)
    assert named.split_rule == "seeded: whole groups, test_fraction 0.2, seed 0"
    with pytest.raises(UserError, match=r"group_pattern '\^\(x\)' finds no group in 'ann_0'"):
        build(root, text, group_pattern="^(x)")
    with pytest.raises(UserError, match="has 0 groups; it needs exactly one"):
        build(root, text, group_pattern="^x")


def test_missing_files_are_counted_or_left_out(root: Path) -> None:
    gone = [f"gone_{i}.wav" for i in range(7)]
    rows = [f"{name},{'ab'[i % 2]}\n" for i, name in enumerate([*gone, *NAMES])]
    text = "path,label\n" + "".join(rows)
    words = (
        r"row 1: path 'gone_0.wav' does not exist in .* \(7 of 19 rows name no file: also "
        r"'gone_1.wav', 'gone_2.wav', 'gone_3.wav', 'gone_4.wav', \.\.\.\); .*allow_missing=true"
    )
    with pytest.raises(UserError, match=words):
        build(root, text)
    manifest = build(root, text, allow_missing=True)
    assert [r.uid for r in manifest] == sorted(NAMES)
    alone = "path,label\n" + "".join(rows[7:])
    assert manifest.content_hash == build(root, alone).content_hash
    lost = text.replace("gone_0.wav,a", "gone_0.wav,of none")  # no class without a recording
    assert build(root, lost, allow_missing=True).class_names == ("a", "b")
    report = check(manifest, SpeechConfig().build(), progress=False)
    assert "7 of 19 rows name no file and were left out" in report.notes
    with pytest.raises(UserError, match="7 of 7 rows name no file"):
        build(root, "path,label\n" + "".join(rows[:7]), allow_missing=True)


def test_a_check_warns_of_speakers_in_names_before_all_else(root: Path) -> None:
    rows = "".join(f"{name},{'ab'[i // 2 % 2]}\n" for i, name in enumerate(NAMES))
    manifest = build(root, f"path,label\n{rows}", test_fraction=0.5)
    lines = check(manifest, SpeechConfig().build(), progress=False).lines()
    (line,) = [line for line in lines if "looks like a speaker" in line]
    assert line.startswith("warning: part 1 of the files' names")
    assert "'ann', 'bob', 'eve'" in line
    assert "group_pattern='^([^_\\-. ]+)'" in line
    assert lines[-1].startswith("ready to use: 0 error(s), 1 warning(s)")
    told = build(root, f"path,label\n{rows}", test_fraction=0.5, group_pattern="^([^_]+)")
    assert not check(told, SpeechConfig().build(), progress=False).warnings
