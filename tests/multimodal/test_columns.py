"""Columns are what a tuple of recordings was: every field, hash, copy and comparison."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal import columns as module
from multimodal.columns import NAMES, Columns, Recording, printable
from multimodal.datasets.table import TableConfig
from multimodal.recordings import SPLITS, Manifest

CLASSES = ("u", "v", "w")
ids = st.lists(st.integers(0, 2), max_size=3, unique=True).map(tuple)
texts = st.sampled_from(["", "one", "two\nlines", "café", "\udcb2"])
slot = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y z"]))


def silence() -> np.ndarray:
    return np.zeros((1, 8))


def recordings(labels: st.SearchStrategy = ids) -> st.SearchStrategy[list[Recording]]:
    row = st.builds(
        Recording,
        uid=st.text("ab/\n\u00a0é\udcb2", min_size=1, max_size=6),
        labels=labels,
        split=st.sampled_from(SPLITS),
        path=st.none() | st.sampled_from([Path("a/b.wav"), Path("/c.wav"), Path("."), Path("x")]),
        group=st.sampled_from(["", "ann", "bob"]),
        text=texts,
        start=st.sampled_from([0.0, 0, 1.5, np.float64(2)]),
        duration=st.none() | st.sampled_from([1.0, 2, np.float32(3)]),
        make=st.sampled_from([None, silence]),
        unknown=st.just(()) | ids,
        slots=st.lists(slot, max_size=2).map(tuple),
    )
    return st.lists(row, min_size=1, max_size=8, unique_by=lambda r: printable(r.uid))


def table(rows: list[Recording], **settings: object) -> Manifest:
    return Manifest("d", "speech", CLASSES, rows, "1", group_overlap="any", **settings)  # type: ignore[arg-type]


def in_order(rows: list[Recording]) -> list[Recording]:
    return sorted((replace(r, uid=printable(r.uid)) for r in rows), key=lambda r: r.uid)


def content_hash_of(rows: list[Recording]) -> str:
    """As it was computed from recordings, one by one; runs of before have it in their results."""
    digest = hashlib.sha256(repr(("d", "1", CLASSES)).encode())
    for r in rows:
        size = r.path.stat().st_size if r.path is not None and r.path.exists() else -1
        row = (r.uid, r.labels, r.split, r.group, r.text, r.start, r.duration, size)
        row += (r.unknown,) if r.unknown else ()
        row += (("slots", *r.slots),) if r.slots else ()
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


def main_labels(rows: list[Recording]) -> list[int]:
    totals = Counter((r.split, c) for r in rows for c in r.labels)
    taken: Counter[tuple[str, int]] = Counter()
    main = []
    for r in rows:
        order = [(taken[r.split, c], totals[r.split, c], c) for c in r.labels]
        main.append(min(order)[2] if order else -1)
        taken[r.split, main[-1]] += 1
    return main


@given(recordings())
def test_every_column_is_that_of_the_recordings(rows: list[Recording]) -> None:
    manifest, expected = table(rows), in_order(rows)
    assert list(manifest) == expected
    assert [manifest.recordings[i] for i in range(-len(rows), len(rows))] == expected * 2
    assert list(manifest.recordings[1::2]) == expected[1::2]
    several = any(len(r.labels) != 1 or r.unknown for r in rows)
    assert manifest.multi_label == several
    wanted = main_labels(expected) if several else [r.label for r in expected]
    assert manifest.labels.tolist() == wanted
    assert manifest.labels.dtype == np.int64
    for row, r in zip(manifest.targets, expected, strict=True):
        values = [1 if c in r.labels else np.nan if c in r.unknown else 0 for c in range(3)]
        np.testing.assert_array_equal(row, np.array(values, dtype=np.float32))
    for name in ("group", "split"):
        assert getattr(manifest, f"{name}s").tolist() == [getattr(r, name) for r in expected]
    for split in SPLITS:
        assert manifest.indices(split).tolist() == [
            i for i, r in enumerate(expected) if r.split == split
        ]
    for name in ("texts", "slots"):
        values = tuple(
            getattr(r, name.removesuffix("s") if name == "texts" else name) for r in expected
        )
        assert getattr(manifest, name) == (values if any(values) else None)
    assert list(manifest.columns.paths()) == [r.path and str(r.path) for r in expected]
    assert manifest.has_files == any(r.path is not None for r in expected)
    assert manifest.content_hash == content_hash_of(expected)


@given(recordings(st.sampled_from([(0,), (1,), (np.int64(2),)])), st.data())
def test_copies_are_the_same(rows: list[Recording], data: st.DataObject) -> None:
    manifest = table(rows)
    again = table(data.draw(st.permutations(rows)))
    assert again == manifest
    assert hash(again) == hash(manifest)
    pickled = pickle.loads(pickle.dumps(manifest))
    assert pickled == manifest
    assert pickled.content_hash == manifest.content_hash == again.content_hash
    keep = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, unique=True))
    chosen = manifest.select(keep)
    assert list(chosen) == sorted((manifest.recordings[i] for i in keep), key=lambda r: r.uid)
    assert chosen == manifest.select(np.array(keep))
    assert (chosen == manifest) == (len(keep) == len(rows))
    moved = manifest.columns.replace(split=["test"] * len(rows))
    assert list(moved) == [replace(r, split="test") for r in manifest]
    assert replace(manifest, version="1") == manifest
    assert table(list(manifest)) == manifest


@given(recordings(), st.sampled_from(NAMES))
def test_one_other_value_is_noticed(rows: list[Recording], name: str) -> None:
    one = Columns.of(rows)
    value = {"uid": "other", "split": "other", "path": Path("other"), "make": len}.get(
        name, "other"
    )
    other = replace(rows[0], **{name: value})
    assert Columns.of([other, *rows[1:]]) != one
    assert Columns.of(rows[1:]) != one
    assert (one == tuple(rows), one == (other, *rows[1:])) == (True, False)


def test_files_below_a_root_are_paths(tmp_path: Path) -> None:
    for root in (Path(), Path("data"), tmp_path):
        columns = Columns(
            {"uid": ["a"], "path": ["s/a.wav"], "labels": [(0,)], "split": ["test"]}, root=root
        )
        assert columns[0].path == root / "s/a.wav"
        assert list(columns.paths()) == [str(root / "s/a.wav")]
        assert columns == Columns.of(columns) == Columns.of(tuple(columns))


def test_columns_cannot_be_written() -> None:
    manifest = table([Recording("a", (0,), "test")])
    for column in (manifest.splits, manifest.groups):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = "train"


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 30))
def test_a_table_makes_no_recording_before_one_is_asked_for(tmp_path_factory, count: int) -> None:
    root = tmp_path_factory.mktemp("data")
    names = [f"s{i % 3}/{i}.wav" for i in range(count)]
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"1")
    rows = [f"{name},{i % 2},{'test' if i % 4 else 'train'}\n" for i, name in enumerate(names)]
    (root / "t.csv").write_text("path,label,split\n" + "".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Recording", None)
        manifest = TableConfig(file="t.csv").build(root)
        assert len(manifest.select(manifest.indices("train")).labels) == -(-count // 4)
        assert manifest.files_hash
        assert manifest.content_hash
    eager = replace(manifest, recordings=tuple(manifest))
    assert eager == manifest
    assert eager.content_hash == manifest.content_hash
    assert eager.files_hash == manifest.files_hash
