"""Splits inside groups, of tables whose split by whole groups is refused; and rare classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from continual.scenarios.class_incremental import ClassIncrementalConfig
from continual.scenarios.domain_incremental import DomainIncrementalConfig
from multimodal.datasets.folder import FolderConfig
from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError

COUNT = 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(COUNT):
        (tmp_path / f"{i:03d}.wav").write_bytes(b"x")
    return tmp_path


def table(root: Path, header: str, row: Callable[[int], str], **settings: Any) -> TableConfig:
    rows = "".join(f"{i:03d}.wav,{row(i)}\n" for i in range(COUNT))
    (root / "t.csv").write_text(f"path,{header}\n{rows}")
    return TableConfig.parse({"file": "t.csv", "group_column": "site", **settings})


CASES: dict[str, tuple[str, Callable[[int], str], dict[str, Any]]] = {
    "a class of one group alone": (
        "label,site",
        lambda i: f"{'rare' if i < 6 else f'c{i % 3}'},s{int(i >= 20)}",
        {},
    ),
    "one group only": ("label,site", lambda i: f"c{i % 2},one", {}),
    "a class of one recording": (
        "label,site",
        lambda i: f"{'rare' if i == 7 else f'c{i % 3}'},s{i % 4}",
        {},
    ),
    "several labels, one group only": (
        "A,B,site",
        lambda i: f"{i % 2},{int(i % 3 == 0)},one",
        {"label_columns": ["A", "B"]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_split_inside_groups_needs_none_of_whole_groups(root: Path, case: str) -> None:
    header, row, settings = CASES[case]
    config = table(root, header, row, **settings)
    with pytest.raises(UserError):
        config.build(root)
    manifest = config.build_for_stream(root)
    assert manifest.undrawn
    stream = DomainIncrementalConfig().build(manifest, 1)
    assert not stream.manifest.undrawn
    assert len(stream) == len(set(manifest.groups))
    rows = [np.concatenate([e.train, e.test]) for e in stream.experiences]
    assert sorted(np.concatenate(rows).tolist()) == list(range(COUNT))
    for experience in stream.experiences:
        assert len(experience.train) > len(experience.test) > 0


def test_recordings_without_a_label_in_one_group_alone(root: Path) -> None:
    """They are no class that must stand on both sides of the split by whole groups."""
    config = table(
        root,
        "A,B,C,site",
        lambda i: f"{int(i % 2 == 0)},{int(i % 3 == 0)},{int(i % 7 == 0)},s{i % 2}",
        label_columns=["A", "B", "C"],
        test_fraction=0.5,
    )
    manifest = config.build_for_stream(root)
    assert len(DomainIncrementalConfig().build(manifest, 1)) == 2


@pytest.mark.parametrize("given", ["column", "pattern"])
def test_the_users_own_split_inside_groups(root: Path, given: str) -> None:
    split = {"column": {}, "pattern": {"split_pattern": "^([a-z]+)/"}}[given]
    if given == "pattern":
        for i in range(COUNT):
            side = root / ("test" if i % 5 == 0 else "train")
            side.mkdir(exist_ok=True)
            (root / f"{i:03d}.wav").rename(side / f"{i:03d}.wav")
        rows = "".join(
            f"{'test' if i % 5 == 0 else 'train'}/{i:03d}.wav,c{i % 2},s{i % 4}\n"
            for i in range(COUNT)
        )
        (root / "t.csv").write_text(f"path,label,site\n{rows}")
        config = TableConfig.parse({"file": "t.csv", "group_column": "site", **split})
    else:
        config = table(
            root,
            "label,site,split",
            lambda i: f"c{i % 2},s{i % 4},{'test' if i % 5 == 0 else 'train'}",
        )
    with pytest.raises(UserError, match="stand on both sides of a split"):
        config.build(root)
    manifest = config.build_for_stream(root)
    stream = DomainIncrementalConfig().build(manifest, 1)
    assert sum(len(e.test) for e in stream.experiences) == COUNT // 5
    assert stream.manifest.group_overlap == "each group is tested on other recordings of its own"
    with pytest.raises(UserError, match="stand on both sides of a split"):
        ClassIncrementalConfig(num_experiences=2).build(manifest, 1)


def test_a_rare_class_that_the_stream_leaves_out(root: Path) -> None:
    config = table(root, "label,site", lambda i: f"{'rare' if i == 7 else f'c{i % 3}'},")
    manifest = config.build_for_stream(root)
    subset = ClassIncrementalConfig(classes=(("c0", "c1"), ("c2",)), validation_fraction=0.2)
    stream = subset.build(manifest, 1)
    assert sum(len(e.train) + len(e.validation) + len(e.test) for e in stream.experiences) == 39
    for scenario in (
        ClassIncrementalConfig(num_experiences=2),
        ClassIncrementalConfig(classes=(("c0", "rare"),)),
        ClassIncrementalConfig(num_experiences=2, group_classes_by="prefix"),
    ):
        with pytest.raises(UserError, match="class 'rare' has only one recording"):
            scenario.build(manifest, 1)


def test_folders_too(tmp_path: Path) -> None:
    for name, count in (("a", 9), ("b", 9), ("rare", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f"s{i % 3}_{i}.wav").write_bytes(b"x")
    config = FolderConfig(group_pattern="^(s.)_")
    with pytest.raises(UserError, match="class 'rare' has only one recording"):
        config.build(tmp_path)
    manifest = config.build_for_stream(tmp_path)
    assert len(DomainIncrementalConfig().build(manifest, 1)) == 3
    ClassIncrementalConfig(classes=(("a",), ("b",))).build(manifest, 1)
