"""Settings of tables: which go together, and that new ones change no old config."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.table import TableConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"label_columns": ["a"], "label_separator": "|"},
        {"uncertain": "u_ones"},
        {"group_column": "who", "group_pattern": "^(.)"},
        {"split_column": "part", "split_pattern": "^(.)"},
        {"label_columns": []},
        {"label_separator": ""},
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TableConfig.parse({"file": "t.csv", **settings})


def test_new_settings_change_no_old_config() -> None:
    """A config's hash is over its dump, so that finished runs are found again."""
    plain = TableConfig(file="t.csv").dump()
    assert set(plain) == {
        *("name", "root", "file", "path_column", "label_column", "split_column", "group_column"),
        *("text_column", "modality", "test_fraction", "seed"),
    }
    full = TableConfig(file=("t.csv", "u.csv"), label_columns=("a",), uncertain="u_ones")
    assert DATASETS.parse(full.dump()) == full
    assert full.dump()["file"] == ["t.csv", "u.csv"]
