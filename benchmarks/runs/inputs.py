"""What a run reads beside its config, told by its bytes: a run goes on, and its result counts, only
while that stays the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.config.base import CommandConfig
from benchmarks.config.plugins import plugins_of
from multimodal import contents
from multimodal.errors import UserError
from multimodal.hub import FILES
from multimodal.recordings import Manifest

Inputs = dict[str, str]


class OtherData(UserError):
    """A run folder was begun with other data than there is now."""


PROMPT_FILES = ("templates", "phrases")
FOLDERS = ("checkpoint", "tokenizer")
PLUGIN = "plugin."
SUFFIXES = (".yaml", ".yml", ".json")


def digests_file(config: CommandConfig) -> Path:
    """Where the digests of files that stay the same are remembered."""
    return Path(config.output_dir).expanduser() / "cache" / "digests"


def inputs_of(config: CommandConfig, manifest: Manifest) -> Inputs:
    """Setting -> digest: the dataset's files, files of prompts, folders of checkpoints, and sources
    of plug-ins.

    Names on the hub are pinned by their revision, and shipped prompts by Medley's version.
    """
    found = {"dataset": manifest.files_hash} if manifest.has_files else {}
    remembered = digests_file(config)
    for setting, files in _named_files(config.dump()):
        found[setting] = contents.digest(files, remembered)
    return found | {f"{PLUGIN}{name}": digest for name, digest in plugins_of(config).items()}


def manifest_input(manifest: Manifest) -> str:
    """Rows and files of another dataset that a run depends on."""
    return f"{manifest.content_hash}-{manifest.files_hash}"


def refuse_changed_inputs(folder: Path, was: Mapping[str, str] | None, now: Inputs) -> None:
    """UserError if what a run reads has changed since it began.

    was: as the run noted it; None, as in those of earlier versions, is told in one line.
    """
    if was is None:
        _tell_unknown(folder.parent)
        return
    # Earlier versions did not note what plug-ins were.
    keys = {*was, *(key for key in now if not key.startswith(PLUGIN))}
    changed = sorted(key for key in keys if was.get(key) != now.get(key))
    if changed:
        words = ", ".join(f"{k} {was.get(k, 'none')}, now {now.get(k, 'none')}" for k in changed)
        raise OtherData(
            f"{folder}: files that this run reads have changed since it began, under the same "
            f"names (digest of {words}); start anew with --fresh, or delete this folder."
        )


@lru_cache
def _tell_unknown(experiment: Path) -> None:
    print(
        f"medley: {experiment}: runs of an earlier version, which did not note what their files "
        "held, are taken as they are; if files were replaced since, or for what this version "
        "computes otherwise (decoders, memories, clib), start anew with --fresh.",
        file=sys.stderr,
    )


def _named_files(data: Any, path: str = "") -> Iterator[tuple[str, list[Path]]]:
    """(setting, files) of the local files that plain config data names."""
    if isinstance(data, list):
        for number, value in enumerate(data):
            yield from _named_files(value, f"{path}{number}.")
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        place = Path(value).expanduser() if isinstance(value, str) else None
        if place is None:
            yield from _named_files(value, f"{path}{key}.")
        elif key in PROMPT_FILES and place.suffix in SUFFIXES:
            yield f"{path}{key}", [place]
        elif key in FOLDERS and place.is_dir():
            found = {file for pattern in FILES for file in place.rglob(pattern) if file.is_file()}
            yield f"{path}{key}", sorted(found)
