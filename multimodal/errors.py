"""The one exception that means "the user's input is wrong", and what a disk refuses, in words."""

from __future__ import annotations

import errno
import os
import re

AGAIN = "then give the same command again"
# What to do about an error of the disk, which is the user's to mend.
DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"make room there, {AGAIN}"),
    errno.EFBIG: f"allow larger files (ulimit -f), {AGAIN}",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "mend the permissions, or name another place"
    ),
    **dict.fromkeys(
        (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
        "move away what stands there, or name another place",
    ),
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "mend its links, which lead in a circle",
    **dict.fromkeys((errno.EIO, errno.ESTALE), "its disk fails; mend it, or name another place"),
}
# Libraries written in Rust tell it in words only.
NUMBER = re.compile(r"\(os error (\d+)\)")


class UserError(ValueError):
    """Bad input: the message names the file or setting, the value and the remedy.

    The command line prints it as one line and exits with code 2; every other exception is a
    fault of ours and keeps its traceback. Several problems found together are joined by newlines,
    one line a problem.
    """


def did_you_mean(value: str, valid: list[str]) -> str:
    """Words for an unknown name: the nearest valid one, if any, then all valid ones."""
    import difflib

    near = difflib.get_close_matches(value, valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    between = "; " if any("," in name for name in valid) else ", "
    return f"{hint} Valid: {between.join(sorted(valid)) or '(none registered)'}."


def how_to_install(extra: str) -> str:
    """Words for what only an extra brings; the ``medley`` of public indexes is not ours."""
    return f"install the extra {extra!r}: pip install '.[{extra}]' in Medley's checkout"


def of_the_disk(error: BaseException | None) -> OSError | None:
    """The error of a disk that an exception is, or that it came from; None: there is none."""
    while error is not None:
        # TLS numbers its errors in its own way.
        if isinstance(error, OSError) and type(error).__module__ != "ssl" and error.errno in DISK:
            return error
        found = NUMBER.search(str(error))
        if found and int(found[1]) in DISK:
            return OSError(int(found[1]), os.strerror(int(found[1])))
        error = error.__cause__ or error.__context__
    return None
