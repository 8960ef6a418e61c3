from __future__ import annotations

from dataclasses import replace

import pytest

from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording, shared_groups
from tests.toy import toy_manifest

ROWS = (
    Recording("b", (1,), "train", group="x"),
    Recording("a", (0,), "test", group="y", text="hello"),
    Recording("c", (0,), "validation"),
)


def manifest(*rows: Recording, **changes: object) -> Manifest:
    fields: dict[str, object] = {"name": "d", "modality": "speech", "version": "1"}
    return Manifest(**{**fields, "class_names": ("u", "v"), "recordings": rows, **changes})  # type: ignore[arg-type]


def test_rows_are_sorted_by_uid_and_columns_follow() -> None:
    table = manifest(*ROWS)
    assert [r.uid for r in table] == ["a", "b", "c"]
    assert table.labels.tolist() == [0, 1, 0]
    assert table.indices("train").tolist() == [1]
    assert table.texts == ("hello", "", "")
    assert table == manifest(*reversed(ROWS))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "no recordings found"),
        ((ROWS[0], ROWS[0]), "duplicate recording 'b'"),
        ((replace(ROWS[0], split="dev"),), "split 'dev' is not one of train, validation, test"),
        ((replace(ROWS[0], labels=(2,)),), r"label \(2,\) outside the 2 classes"),
        ((replace(ROWS[0], slots=(("a", " "),)),), r"b: slot \('a', ' '\): its value is empty"),
        ((replace(ROWS[0], slots=(("", "b"),)),), "its type is empty"),
        ((replace(ROWS[0], slots=(("a\n", "b"),)),), "its type breaks a line"),
        ((replace(ROWS[0], slots=(("a", "b\u2028c"),)),), "its value breaks a line"),
        ((ROWS[0], replace(ROWS[1], group="x")), r"1 group\(s\) stand on both sides .*\(x\)"),
    ],
)
def test_bad_tables_are_refused(rows: tuple[Recording, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        manifest(*rows)


def test_an_official_overlap_of_groups_is_allowed_when_it_is_said() -> None:
    table = manifest(ROWS[0], replace(ROWS[1], group="x"), group_overlap="official split")
    assert shared_groups(table) == ["x"]


def test_unknown_groups_are_never_a_leak() -> None:
    assert shared_groups(manifest(*(replace(r, group="") for r in ROWS))) == []


def test_content_hash_sees_rows_and_files(tmp_path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"12")
    with_file = (replace(ROWS[0], path=file), *ROWS[1:])
    first = manifest(*with_file).content_hash
    assert first == manifest(*reversed(with_file)).content_hash
    file.write_bytes(b"123")
    changed = {first, manifest(*with_file).content_hash, manifest(*ROWS[:2]).content_hash}
    changed.add(manifest(replace(ROWS[0], labels=(0,)), *ROWS[1:]).content_hash)
    assert len(changed) == 4


def test_slots_are_a_column() -> None:
    assert manifest(*ROWS).slots is None
    slots = (("item", "milk"), ("item", "bread"))
    table = manifest(replace(ROWS[0], slots=slots), *ROWS[1:])
    assert table.slots == ((), slots, ())


def test_content_hash_knows_slots_and_is_as_ever_without_any() -> None:
    rows = (replace(ROWS[0], unknown=(0,)), ROWS[1])
    assert manifest(*rows).content_hash == "d0aaddd6bb88b55f"  # before there were slots
    one, two = ("object", "lights"), ("location", "kitchen")
    others: list[tuple[tuple[str, str], ...]] = [(one,), (two,), (one, two), (two, one)]
    changed = {manifest(replace(rows[0], slots=s), rows[1]).content_hash for s in others}
    changed.add(manifest(rows[0], replace(rows[1], slots=(one,))).content_hash)
    assert len(changed - {manifest(*rows).content_hash}) == 5


def test_select_keeps_classes() -> None:
    table = toy_manifest().select([0, 3])
    assert len(table) == 2
    assert table.num_classes == 4


def test_files_hash_is_of_bytes_wherever_they_lie(tmp_path) -> None:
    import os

    hashes = []
    for name, content in (("raw", b"12"), ("other", b"34"), ("copy", b"12")):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "a.wav"
        file.write_bytes(content)
        os.utime(file, (1, 1))
        table = manifest(replace(ROWS[0], path=file))
        hashes.append((table.content_hash, table.files_hash))
    assert hashes[0][0] == hashes[1][0]
    assert hashes[0][1] != hashes[1][1]
    assert hashes[0] == hashes[2]
