"""Files are found a folder at a time as they are one by one."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.datasets import places
from multimodal.datasets.places import find_files, inside, spelled
from multimodal.errors import UserError

NFC, NFD = (unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD"))
PARTS = (
    "a.wav",
    "b",
    "sub",
    "..",
    ".",
    "",
    "link",
    "out",
    "ring",
    "in.wav",
    "none",
    NFC,
    NFD,
    "\0",
)
names = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4)
written = st.builds(lambda parts, by: by.join(parts), names, st.sampled_from(["/", "\\", "//"]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, folders, and links to files and folders within it, out of it and to themselves."""
    root = tmp_path_factory.mktemp("places") / "root"
    for name in ("a.wav", "b/a.wav", "b/sub/a.wav", f"b/{NFD}", "sub/b\\a.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1")
    (root.parent / "a.wav").write_bytes(b"1")
    for name, target in (
        ("link", root / "b" / "sub"),
        ("out", root.parent),
        ("ring", root / "ring"),
        ("b/in.wav", root / "a.wav"),
        ("b/out", root.parent / "a.wav"),
    ):
        (root / name).symlink_to(target)
    return root


def one_by_one(root: Path, name: str) -> tuple[str, bool] | None:
    """(uid, whether it is a file); None: it leads out."""
    try:
        path, uid = inside(root, spelled(root, name), name)
    except UserError:
        return None
    return uid, os.path.isfile(path)


@given(st.lists(written.filter(bool), min_size=1, max_size=30), st.sampled_from([1, 16]))
def test_as_one_by_one(root: Path, names: list[str], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "FEW", few)  # also those folders are listed that are not worth it
        found = find_files(root, names)
    outside = {i for i, name in enumerate(names) if one_by_one(root, name) is None}
    assert set(found.outside) <= outside
    assert min(found.outside, default=-1) == min(outside, default=-1)
    if outside:
        return
    expected = [one_by_one(root, name) for name in names]
    assert list(found.uids) == [uid for uid, _ in filter(None, expected)]
    assert found.missing == [i for i, each in enumerate(expected) if each and not each[1]]


@given(st.lists(st.sampled_from(["b/a.wav", "b/sub/a.wav", "link/a.wav"]), min_size=20))
def test_a_folder_is_resolved_once(root: Path, names: list[str]) -> None:
    resolved = []
    whole = Path.resolve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "resolve", lambda path: (resolved.append(path), whole(path))[1])
        found = find_files(root, names)
    assert len(resolved) == 1 + len(set(names))
    assert (found.missing, found.outside, found.uids) == ([], [], names)


def test_a_large_folder_is_not_listed_for_a_few_rows(root: Path, tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / f"{i}.wav").write_bytes(b"")
    folder = os.path.join(tmp_path, "")
    assert len(places._plain_files(folder, 20)) == 400
    assert places._plain_files(folder, 19) == set()
    assert places._plain_files(folder, 3) == set()
    names = [f"{i}.wav" for i in range(19)]
    assert find_files(tmp_path, [*names, "no.wav"]) == ([*names, "no.wav"], [19], [])
