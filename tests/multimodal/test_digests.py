"""Files that say themselves whether they are as they were written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from multimodal.digests import (
    DamagedFile,
    crc32,
    open_tensors,
    read_sealed,
    read_tensors,
    sealed,
    write_tensors,
)

TENSORS = {
    "a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "b": torch.tensor(True),
    "c": torch.arange(12.0).reshape(3, 4).T,
    "d": torch.zeros(0, 2),
}


def test_the_digest_is_that_of_zlib() -> None:
    assert crc32("ab", b"cd", memoryview(b"e")) == f"{zlib.crc32(b'abcde'):08x}"


def test_tensors_come_back_with_their_words(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {**TENSORS, "shared": TENSORS["c"]}, {"who": "me"})
    tensors, words, digest = read_tensors(path)
    assert words == {"who": "me"}
    assert digest is not None
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert torch.equal(load_file(path)["shared"], TENSORS["c"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_any_byte_that_changes_is_found(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"who": "me"})
    data, generator = path.read_bytes(), np.random.default_rng(0)
    for place in range(len(data)):
        copy = bytearray(data)
        copy[place] ^= generator.integers(1, 256)
        path.write_bytes(copy)
        try:
            tensors, _, digest = read_tensors(path)
        except DamagedFile:
            continue
        # Without a digest (its name is another) a file is believed; the tensors are the same.
        assert digest is None
        assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_files_of_earlier_versions_are_read(tmp_path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x")
    assert read_tensors(tmp_path / "x").tensors["a"].tolist() == [1, 1]
    (tmp_path / "y").write_text('{"a": 1}')
    assert read_sealed(tmp_path / "y") == {"a": 1}


def test_a_tensor_may_be_left_out(tmp_path) -> None:
    path = tmp_path / "x"
    write_tensors(path, {"a": torch.ones(2), "b": torch.ones(1)}, besides=["a"])
    opened = open_tensors(path)
    opened.tensors["a"] = torch.zeros(2)
    assert opened.whole(besides=["a"])
    opened.tensors["b"] = torch.zeros(1)
    assert not opened.whole(besides=["a"])


def test_objects_of_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    data = {"b": [1.5, float("nan"), None], "a": {"2": (1,), "10": "ü"}}
    path.write_text(sealed(data))
    read = read_sealed(path)
    assert json.dumps(read) == json.dumps(json.loads(json.dumps(data)))
    path.write_text(json.dumps(json.loads(path.read_text())))  # another layout, the same object
    assert read_sealed(path).keys() == data.keys()
    path.write_text(path.read_text().replace("1.5", "1.6"))
    with pytest.raises(DamagedFile, match=r"x\.json is damaged .*take the line 'digest' out"):
        read_sealed(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_object_of_json_is_damaged(tmp_path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DamagedFile, match="x is damaged"):
        read_sealed(tmp_path / "x")
    (tmp_path / "x").unlink()
    (tmp_path / "x").mkdir()
    with pytest.raises(DamagedFile, match="x is damaged"):
        read_sealed(tmp_path / "x")


def test_equal_files_have_equal_bytes(tmp_path) -> None:
    """Whatever order the words are given in, and whatever letters they have."""
    words = {f'word {i} \u00e9 "': f"value {i}\n" for i in range(12)}
    paths = [tmp_path / f"{i}.safetensors" for i in range(6)]
    for i, path in enumerate(paths):
        shuffled = dict(sorted(words.items(), key=lambda item: hash((i, item))))
        write_tensors(path, {"x": torch.arange(5), "y": torch.ones(2, 3)}, shuffled)
    assert len({path.read_bytes() for path in paths}) == 1
    tensors, found, _ = read_tensors(paths[0])
    assert found == words
    assert tensors["x"].tolist() == [0, 1, 2, 3, 4]
