"""Names of files as PyAV takes them."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from multimodal.errors import UserError

# FFmpeg would play the files that it lists, wait for more of them, or play the list itself.
PLAYLIST = re.compile(rb"\s*(?:#EXTM3U|ffconcat version|<\?xml[^>]*>\s*<MPD|<MPD)")


def pyav_source(path: Path, where: str) -> AbstractContextManager[BinaryIO | str]:
    """What PyAV opens: names that are UTF-8, others as open files. UserError: a playlist."""
    with path.open("rb") as file:
        if PLAYLIST.match(file.read(1024).removeprefix(b"\xef\xbb\xbf")):
            raise UserError(f"{where}: a list of other files, no recording; name those instead.")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.open("rb")
    # The prefix keeps a colon in a name from meaning a protocol.
    return nullcontext(f"file:{path.absolute()}")
