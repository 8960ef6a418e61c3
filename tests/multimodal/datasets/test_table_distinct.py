"""Names that are listed, and labels, come once: no repeats, and one spelling of whole numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from continual.scenarios import SCENARIOS
from multimodal.datasets import DATASETS
from multimodal.datasets.table import TableConfig
from multimodal.datasets.table_cells import text_of
from multimodal.errors import UserError

TWICE = ["A", "B", "A"]


@pytest.mark.parametrize(
    "data",
    [
        {"name": "table", "file": "t.csv", "label_columns": TWICE},
        {"name": "table", "file": TWICE},
        *({"name": name, "classes": TWICE} for name in ("chexpert", "mimic_cxr", "nih_cxr14")),
        *({"name": name, "classes": TWICE} for name in ("hmdb51", "ucf101")),
        {"name": "speech_commands", "words": TWICE},
        {"name": "class_incremental", "num_experiences": 2, "held_out": TWICE},
        {"name": "domain_incremental", "order": TWICE},
        {"name": "modality_incremental", "order": TWICE},
    ],
)
def test_what_is_listed_twice_is_refused(data: dict[str, Any]) -> None:
    registry = SCENARIOS if data["name"].endswith("_incremental") else DATASETS
    with pytest.raises((ValidationError, UserError), match="'A' is listed more than once"):
        registry.parse(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(16):
        (tmp_path / f"{i}.wav").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("separator", [None, "|"])
def test_whole_numbers_are_one_class_in_every_kind_of_file(
    root: Path, separator: str | None
) -> None:
    """As floats, where a column of numbers has a gap, and as whole numbers elsewhere."""
    columns = {"path": [f"{i}.wav" for i in range(8)], "label": [float(i % 2) for i in range(8)]}
    columns["who"] = [float(i) for i in range(8)]
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "a.parquet")
    rows = [{"path": f"{i}.wav", "label": i % 2, "who": i - 8} for i in range(8, 16)]
    (root / "b.json").write_text(json.dumps(rows))
    config = TableConfig(
        file=("a.parquet", "b.json"), label_separator=separator, group_column="who"
    )
    manifest = config.build(root)
    assert manifest.class_names == ("0", "1")
    assert set(manifest.groups) == set("01234567")


def test_numbers_as_text() -> None:
    whole = [1, 1.0, Decimal("1"), Decimal("1.00")]
    assert {text_of(cell) for cell in whole} == {"1"}
    assert [text_of(cell) for cell in (-0.0, 0.5, 1e300, float("inf"), -3.0)] == [
        *("0", "0.5", "1e+300", "inf", "-3")
    ]
    assert [text_of(cell) for cell in (None, float("nan"), True, "1.0")] == ["", "", "True", "1.0"]


def test_a_list_and_a_text_that_looks_like_it(root: Path) -> None:
    rows = [{"path": f"{i}.wav", "label": ["x", 2.0] if i % 2 else "['x', 2.0]"} for i in range(8)]
    (root / "t.json").write_text(json.dumps(rows))
    names = TableConfig(file="t.json", label_separator="|").build(root).class_names
    assert set(names) == {"x", "2", "['x', 2.0]"}


def test_a_column_that_is_called_as_an_uncertain_class(root: Path) -> None:
    (root / "t.csv").write_text("path,A,A (uncertain)\n0.wav,-1,1\n1.wav,0,1\n")
    config = TableConfig(file="t.csv", label_columns=("A", "A (uncertain)"), uncertain="u_multi")
    with pytest.raises(UserError, match=r"'A \(uncertain\)' is a column, and what uncertain"):
        config.build(root)
