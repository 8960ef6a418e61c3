"""CompA on tiny copies of its layout, with the traps of the released tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from multimodal.datasets import DATASETS
from multimodal.datasets.compa import CompaAttributeConfig, CompaOrderConfig
from multimodal.errors import UserError

ORDER = [
    *("pair_caption", "reversed_pair_caption", "triplet_caption"),
    *("pair_file", "reversed_pair_file", "triplet_file"),
]
ROWS = [
    ["A dog, then a bell", "A bell, then a dog", "-", "34.wav", "25_rev.wav", "-"],
    ["Rain; then [wind]", 'Wind, "then" rain', "Both", "1.wav", "1_rev.wav", "7_trip.wav"],
]
ATTRIBUTE = ["pair_caption", "reversed_pair_caption", "pair_file", "reversed_pair_file"]


def table(*rows: list[str]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


def order_copy(
    root: Path,
    rows: list[list[str]] = ROWS,
    *,
    name: str = "CompA_order_benchmark.csv",
    folder: str = "CompA_order_files",
) -> Path:
    (root / folder).mkdir(parents=True)
    for cells in ROWS:
        for file in cells[3:]:
            (root / folder / file).write_bytes(b"x")
    (root / folder / "-").unlink()
    (root / name).write_text(table(ORDER, *rows), encoding="utf-8")
    return root


def attribute_copy(
    root: Path, count: int, *, header: list[str] | None = None, folder: str = "CompA Attribute"
) -> Path:
    """Names of sources, which are not in the archive, then the names in it."""
    local = ["pair_file", "reversed_pair_file"]
    lines = [
        [f"a child laughs {i}", f"a man laughs {i}", f"yt{i}", f"zt{i}", f"{i}.wav", f"{i}_rev.wav"]
        for i in range(count)
    ]
    (root / folder).mkdir(parents=True)
    for *_, one, two in lines:
        (root / folder / one).write_bytes(b"x")
        (root / folder / two).write_bytes(b"x")
    (root / "Compa-Attribute.csv").write_text(table(header or [*ATTRIBUTE, *local], *lines))
    return root


def test_order(tmp_path: Path) -> None:
    found = CompaOrderConfig().build_compositional(order_copy(tmp_path))
    assert found.counts == {2: 1, 3: 1}
    rows = [[found.manifest.recordings[r] for r in rows] for rows in found.items]
    assert [(r.path.name, r.text) for r in rows[0] if r.path] == [
        ("34.wav", "A dog, then a bell"),
        ("25_rev.wav", "A bell, then a dog"),  # the number is another one
    ]
    assert [(r.path.name, r.text) for r in rows[1] if r.path] == [
        ("1.wav", "Rain; then [wind]"),
        ("1_rev.wav", 'Wind, "then" rain'),
        ("7_trip.wav", "Both"),
    ]
    manifest = found.manifest
    assert manifest.version == "2 rows (a whole table has 400)"
    assert not manifest.synthetic
    assert manifest.citation.endswith("arXiv:2310.08753")
    assert found.names[0] == f"{tmp_path / 'CompA_order_benchmark.csv'}, line 2"


def test_a_whole_order_table(tmp_path: Path) -> None:
    rows = [ROWS[1 if i % 4 == 0 else 0] for i in range(400)]
    found = CompaOrderConfig().build_compositional(order_copy(tmp_path, rows))
    assert found.summary == "compa_order 400 rows: 400 items: 300 of 2, 100 of 3"
    assert len(found.manifest) == CompaOrderConfig().expected_counts()["test"] == 900


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("compa_order_benchmark.csv", "compa_order_files"),
        ("CompA order benchmark.CSV", "CompA Order Files"),
        ("CompA-order.csv", "CompA order"),
    ],
)
def test_names_are_spelt_in_any_way(tmp_path: Path, name: str, folder: str) -> None:
    root = order_copy(tmp_path, name=name, folder=folder)
    (root / folder / "1.wav").rename(root / folder / "1.WAV")
    (root / "README.md").write_text("x")
    found = CompaOrderConfig().build_compositional(root)
    paths = [found.manifest.recordings[r].path for r in found.items[1]]
    assert paths[0] == root / folder / "1.WAV"


def test_the_archives_folder_within_the_folder(tmp_path: Path) -> None:
    outer = tmp_path / "CompA_attribute_files"
    outer.mkdir()
    attribute_copy(tmp_path, 197, folder="CompA_attribute_files/CompA Attribute")
    manifest = CompaAttributeConfig().build(tmp_path)
    assert manifest.recordings[0].path == outer / "CompA Attribute" / "0.wav"


@pytest.mark.parametrize("count", [197, 200, 5])
@pytest.mark.parametrize("header", [None, [*ATTRIBUTE, "pair_file.1", "reversed_pair_file.1"]])
def test_attribute_takes_the_second_columns(
    tmp_path: Path, count: int, header: list[str] | None
) -> None:
    """Of a raw table, whose names come twice, and of one that a data frame has saved."""
    found = CompaAttributeConfig().build_compositional(
        attribute_copy(tmp_path, count, header=header)
    )
    assert len(found) == count
    for i, rows in enumerate(found.items):
        names = [str(r.path) for r in (found.manifest.recordings[row] for row in rows)]
        assert names == [
            str(tmp_path / "CompA Attribute" / f"{i}{end}.wav") for end in ("", "_rev")
        ]
    strange = " (a whole table has 197 or 200)" if count == 5 else ""
    assert found.manifest.version == f"{count} rows{strange}"
    assert found.manifest.synthetic


def test_attribute_with_plain_columns_and_an_index(tmp_path: Path) -> None:
    attribute_copy(tmp_path, 3)
    lines = [[str(i), f"one {i}", f"two {i}", f"{i}.wav", f"{i}_rev.wav"] for i in range(3)]
    (tmp_path / "Compa-Attribute.csv").write_text(table(["", *ATTRIBUTE], *lines))
    found = CompaAttributeConfig().build_compositional(tmp_path)
    assert found.counts == {2: 3}


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    attribute_copy(tmp_path, 197)
    gone = [f"{i}{end}.wav" for i in range(40, 70) for end in ("", "_rev")]
    for name in gone:
        (tmp_path / "CompA Attribute" / name).unlink()
    with pytest.raises(UserError) as caught:
        CompaAttributeConfig().build(tmp_path)
    (line,) = str(caught.value).splitlines()
    assert "60 of 394 files are missing: 40.wav, 40_rev.wav, " in line
    named = line.split(": ")[2].split("; ")[0].split(", ")
    assert named == gone


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["a", "b", "-", "1.wav", "1_rev.wav", "7_trip.wav"], "triplet_caption is '-'; restore"),
        (["a", "b", "c", "1.wav", "1_rev.wav", "-"], "triplet_file is '-'; restore"),
        (["a", "b", "", "1.wav", "1_rev.wav", ""], "triplet_caption is ''; restore"),
        (["a", " ", "-", "1.wav", "1_rev.wav", "-"], "reversed_pair_caption is ''; restore"),
        (["a", "b", "-", "-", "1_rev.wav", "-"], "pair_file is '-'; restore"),
        (["a", "a", "-", "1.wav", "1_rev.wav", "-"], "caption 'a' stands 2 times in one item"),
        (["a", "b", "-", "1.wav", "1.wav", "-"], r"file '1\.wav' stands 2 times in one item"),
        (["a", "b", "-", "../x.wav", "1.wav", "-"], "pair_file '../x.wav' is not the name of"),
        (["a", "b", "-", "1.wav"], "too few columns, 4 cells for 6"),
    ],
)
def test_a_bad_row_names_its_line(tmp_path: Path, row: list[str], message: str) -> None:
    order_copy(tmp_path, [*ROWS, row])
    with pytest.raises(UserError, match=rf"benchmark\.csv, line 4: {message}"):
        CompaOrderConfig().build(tmp_path)


def test_missing_columns(tmp_path: Path) -> None:
    attribute_copy(tmp_path, 3, header=["caption", *ATTRIBUTE[1:], "x", "y"])
    with pytest.raises(UserError, match="there is no column 'pair_caption'; found caption, "):
        CompaAttributeConfig().build(tmp_path)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected CompA_order_benchmark\.csv and .*found nothing"):
        CompaOrderConfig().build(tmp_path)
    order_copy(tmp_path)
    with pytest.raises(UserError, match=r"expected Compa-Attribute\.csv and "):
        CompaAttributeConfig().build(tmp_path)
    (tmp_path / "compa order").mkdir()
    with pytest.raises(UserError, match="CompA_order_files and compa order may both be meant"):
        CompaOrderConfig().build(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        CompaOrderConfig().build(tmp_path / "nowhere")


def test_are_registered() -> None:
    assert DATASETS.config("compa_order") is CompaOrderConfig
    assert DATASETS.config("compa_attribute") is CompaAttributeConfig
