"""Quick runs read a part of a large dataset: of every class, and the same part each time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.runs import quick
from benchmarks.runs.quick import OF_A_CLASS, RECORDINGS, quick_rows
from multimodal.encoders import ENCODERS
from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from tests.toy import toy_data


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(0, 900)), min_size=1, max_size=90),
    st.integers(0, 2**32 - 1),
)
def test_every_class_of_every_split_is_kept(sizes: list[tuple[int, int]], seed: int) -> None:
    """sizes: of each class, in train and test; rows in any order. Counted by hand."""
    pairs = [
        (split, label)
        for label, counts in enumerate(sizes)
        for split, count in zip(("train", "test"), counts, strict=True)
        for _ in range(count)
    ]
    order = np.random.default_rng(seed).permutation(len(pairs))
    splits = np.array([pairs[i][0] for i in order])
    labels = np.array([pairs[i][1] for i in order])
    rows = quick_rows(splits, labels, RECORDINGS, OF_A_CLASS)
    assert rows.tolist() == sorted(set(rows.tolist()))
    kept = Counter(zip(splits[rows].tolist(), labels[rows].tolist(), strict=True))
    for place, split in enumerate(("train", "test")):
        counts = [counts[place] for counts in sizes]
        total, present = sum(counts), sum(count > 0 for count in counts)
        most = max(OF_A_CLASS, RECORDINGS // max(present, 1))
        for label, count in enumerate(counts):
            wanted = count if total <= RECORDINGS else min(count, most)
            assert kept[split, label] == wanted
        assert sum(kept[split, c] for c in range(len(sizes))) <= max(
            RECORDINGS, OF_A_CLASS * present
        )


def test_rows_are_spread_over_the_table() -> None:
    splits, labels = np.full(5_000, "train"), np.zeros(5_000, dtype=np.int64)
    rows = quick_rows(splits, labels, RECORDINGS, OF_A_CLASS)
    assert (rows[0], rows[-1], len(rows)) == (0, 4_999, RECORDINGS)
    assert set(np.diff(rows)) == {10, 11} or max(np.diff(rows)) <= 11


def test_a_quick_run_reads_a_part_and_another_all(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(quick, "RECORDINGS", 8)
    monkeypatch.setattr(quick, "OF_A_CLASS", 2)
    whole, part = (
        Cells(validate(RunConfig, toy_data(quick=q, output_dir=str(tmp_path)), source="toy"))
        for q in (False, True)
    )
    assert len(part.manifest) < len(whole.manifest)
    uids = {r.uid for r in whole.manifest}
    assert {r.uid for r in part.manifest} < uids
    assert part.manifest.class_names == whole.manifest.class_names
    assert set(part.manifest.labels) == set(whole.manifest.labels)
    assert len(part.run_cell(0).experiences) == 2


def test_a_published_encoder_reads_less_in_streams_and_its_run_is_of_other_data(
    tmp_path, monkeypatch
) -> None:
    def made() -> Cells:
        data = toy_data(quick=True, output_dir=str(tmp_path))
        return Cells(validate(RunConfig, data, source="toy"))

    monkeypatch.setattr(quick, "DEAR_RECORDINGS", 8)
    monkeypatch.setattr(quick, "OF_A_DEAR_CLASS", 2)
    usual = made()
    usual.run_cell(0)
    monkeypatch.setattr(CompactConfig, "published", True)
    with pytest.raises(UserError, match="--fresh"):  # never reused silently
        made()
    data = toy_data(quick=True, output_dir=str(tmp_path / "new"))
    dear = Cells(validate(RunConfig, data, source="toy"))
    assert len(usual.manifest) == 4 * (8 + 4)
    assert Counter(dear.manifest.splits.tolist()) == {"train": 8, "test": 8}


def test_encoders_that_hold_a_checkpoint_are_published() -> None:
    checkpoint = {"name": "pretrained", "checkpoint": "packaged-whisper-tiny-en"}
    for data, published in (
        ({"name": "compact"}, False),
        (checkpoint, True),
        ({"name": "lora", "base": checkpoint}, True),
        ({"name": "several", "towers": {"speech": checkpoint}}, True),
        ({"name": "several"}, False),
    ):
        assert ENCODERS.parse(data).published == published  # pyright: ignore
