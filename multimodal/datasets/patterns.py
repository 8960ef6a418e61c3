"""What users tell of their files' names: regular expressions with one group."""

from __future__ import annotations

import re

from multimodal.errors import UserError


def compiled(setting: str, pattern: str | None) -> re.Pattern[str] | None:
    """UserError unless it is a regular expression with exactly one group."""
    if pattern is None:
        return None
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{setting} {pattern!r} is not a regular expression: {error}.") from error
    if found.groups != 1:
        raise UserError(
            f"{setting} {pattern!r} has {found.groups} groups; it needs exactly one, "
            "as in '^([a-z]+)_'."
        )
    return found


def group_in(pattern: re.Pattern[str], stem: str, where: object) -> str:
    """The group in a file's name without extension; UserError if there is none."""
    match = pattern.search(stem)
    if match is None or not match.group(1):
        raise UserError(f"group_pattern {pattern.pattern!r} finds no group in {stem!r} ({where}).")
    return match.group(1)
