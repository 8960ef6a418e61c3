"""The one exception that means "the user's input is wrong"."""

from __future__ import annotations


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
