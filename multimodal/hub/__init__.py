"""Checkpoints and tokenizers: a local folder, a pinned hub name or one that comes as a package.

Nothing is ever run from a checkpoint: only JSON, text, tokenizer and safetensors files are fetched.
"""

from __future__ import annotations

import re
from pathlib import Path

from multimodal.errors import UserError
from multimodal.hub import packaged

PACKAGED = packaged.MINILM
PACKAGES = {packaged.MINILM: packaged.minilm, packaged.WHISPER: packaged.whisper}
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
COMMIT = re.compile(r"[0-9a-f]{40}")


def local_folder(checkpoint: str, revision: str | None) -> Path:
    """The folder that holds a checkpoint; a hub name is downloaded into the hub's cache first.

    checkpoint: a folder; ``packaged-minilm`` or ``packaged-whisper-tiny-en`` (``hub/packaged.py``,
    from the extra "offline"); else a name on the hub.
    revision: the commit of a hub name, 40 hexadecimal digits, because branches and tags move; None
    for the others. UserError names the checkpoint, the revision and the remedy.
    """
    if checkpoint in PACKAGES:
        return PACKAGES[checkpoint]()
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"checkpoint {checkpoint!r} is a folder; remove revision={revision!r}.")
        return folder
    if revision is None or not COMMIT.fullmatch(revision):
        raise UserError(
            f"checkpoint {checkpoint!r} is not a folder, and revision={revision!r} does not pin a "
            "name on the hub; correct the path, or set revision to the commit's 40 hexadecimal "
            f"digits. Without any hub: {' or '.join(PACKAGES)}."
        )
    return _downloaded(checkpoint, revision)


def _downloaded(name: str, revision: str) -> Path:
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=[*FILES])
    # Refusals, lost connections and bad names are exceptions of several libraries.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"checkpoint {name!r} at revision {revision} cannot be fetched ({reason}); correct "
            "both, or copy the checkpoint to this machine and name its folder."
        ) from error
    return Path(folder)
