"""Files that say themselves whether they are as they were written.

A safetensors file has the digest of all that it holds in its header, an object of JSON a last key
``digest``. It is CRC-32 (as in zip and PNG files, and so in PyTorch's checkpoints): it is there for
bits that flip and files that are cut short, not for forgery, and zlib reads 1.8 GiB/s where SHA-256
and BLAKE2b read 0.9 and 0.8. Files without a digest come from earlier versions and are believed.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from multimodal.errors import UserError
from multimodal.files import replacing

KEY = "digest"


class DamagedFile(UserError):
    """A file of ours is not as it was written; the message names it and what is wrong."""


def crc32(*parts: Any) -> str:
    """8 hex digits of bytes, memory or texts, one after another."""
    value = 0
    for part in parts:
        value = zlib.crc32(part.encode() if isinstance(part, str) else part, value)
    return f"{value:08x}"


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy if it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]


# ---- safetensors ----------------------------------------------------------------------------


class Tensors(NamedTuple):
    """A safetensors file that was opened. digest: as written, None in files without one."""

    tensors: dict[str, Tensor]
    words: dict[str, str]
    digest: str | None

    def whole(self, *, besides: Sequence[str] = ()) -> bool:
        """All is as it was written (or there is no telling). besides: as written with."""
        return self.digest in (None, _digest(self.tensors, self.words, besides))


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    words: Mapping[str, str] | None = None,
    *,
    besides: Sequence[str] = (),
) -> None:
    """Write a file that ``read_tensors`` reads, replaced atomically; UserError as ``replacing``.

    words: kept with them. besides: names of tensors that the digest leaves out.
    """
    # Copies where two names share memory, which safetensors refuses.
    own = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    taken = set[int]()
    for name, tensor in own.items():
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    words = dict(words or {})
    with replacing(path) as temporary:
        save_file(own, temporary, {**words, KEY: _digest(own, words, besides)})
        with temporary.open("r+b") as file:
            _sort_words(file)


def _sort_words(file: BinaryIO) -> None:
    """Words in the order of their names: safetensors writes them in any, so that equal files would
    differ in their bytes.
    """
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) <= size:  # spaces may follow
        file.seek(8)
        file.write(text.ljust(size))


def open_tensors(path: Path) -> Tensors:
    """Memory-mapped, not yet compared with their digest.

    DamagedFile: not readable. FileNotFoundError: not there, or deleted just now.
    """
    try:
        with safe_open(path, "pt") as file:
            words = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        if not path.exists():  # it was opened, but not mapped yet
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise DamagedFile(f"{path}: cannot be read ({error})") from error
    return Tensors(tensors, words, words.pop(KEY, None))


def read_tensors(path: Path) -> Tensors:
    """The same, compared. DamagedFile: also if anything is not as it was written."""
    opened = open_tensors(path)
    if not opened.whole():
        raise DamagedFile(f"{path}: cannot be read (damaged: its digest is another)")
    return opened


def _digest(tensors: Mapping[str, Tensor], words: Mapping[str, str], besides: Sequence[str]) -> str:
    parts: list[Any] = [json.dumps(dict(words), sort_keys=True)]
    for name in sorted(tensors):
        tensor = tensors[name]
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}")
        if name not in besides:
            parts.append(memory_of(tensor))
    return crc32(*parts)


# ---- JSON -----------------------------------------------------------------------------------


def sealed(data: Mapping[str, Any]) -> str:
    """An object of JSON as the text of a file, with its digest as the last key."""
    plain = json.loads(json.dumps(data))  # as it will be read: no tuples, keys are strings
    return json.dumps({**plain, KEY: crc32(_canonical(plain))}, indent=1) + "\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """The object without its digest. DamagedFile: no such object, or another than was written."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise DamagedFile(f"{path} is damaged (no object of JSON)")
    digest = data.pop(KEY, None)
    if digest is not None and digest != crc32(_canonical(data)):
        raise DamagedFile(
            f"{path} is damaged (its digest is another; if you have edited it, take the line "
            f"{KEY!r} out)"
        )
    return data


def _canonical(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
