"""docs/limits.md states the limits that the code has."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from multimodal import encoders, yaml_limits
from multimodal.downloads import archives, transfers
from multimodal.encoders import checkpoint_files
from multimodal.modalities import budget, pictures, video_reader, wfdb_header
from multimodal.modalities.sound import part

PAGE = (Path(__file__).parents[1] / "docs/limits.md").read_text("utf-8")


def most(annotated: object) -> int:
    """The upper limit of an annotated number."""
    return next(m.le for m in get_args(annotated)[1].metadata if hasattr(m, "le"))


STATED = {
    "recording": f"{budget.DEFAULT_GIB:g} GiB; `{budget.VARIABLE}`",
    "video": f"{video_reader.LONGEST} times that",
    "sound": f"{part.LOWEST_RATE:,} to {part.HIGHEST_RATE:,} Hz",
    "picture": f"{pictures.LARGEST_PIXELS:,} pixels; {pictures.MOST_SCANS} scans",
    "wfdb": f"WFDB header | {wfdb_header.LARGEST_HEADER // 2**20} MiB",
    "yaml": f"{yaml_limits.MOST_CHARACTERS:,} characters, {yaml_limits.MOST_VALUES:,} values",
    "yaml depth": f"{yaml_limits.DEEPEST} levels",
    "archive": f"{archives.MAX_FILES:,} files, {archives.MAX_BYTES // 2**30} GiB, "
    f"{archives.DEEPEST} folders deep, {archives.MAX_RATIO} times",
    "download": f"{transfers.MOST_BYTES // 2**40} TiB",
    "json": f"{checkpoint_files.LARGEST_JSON // 2**20} MiB",
    "layers": f"up to {checkpoint_files.MOST_LAYERS:,}",
    "encoder": f"width {most(encoders.Width):,}, depth {most(encoders.Depth)}, "
    f"{most(encoders.Heads):,} heads and {encoders.MOST_WEIGHTS:,} weights",
}


@pytest.mark.parametrize("words", STATED.values(), ids=STATED)
def test_the_page_states_what_the_code_holds(words: str) -> None:
    assert words in " ".join(PAGE.split())
