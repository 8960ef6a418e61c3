"""When recordings were made, as tables write it, for pairing by time.

Dates of de-identified data are shifted, each patient's by his own number of days: only differences
within a patient mean anything, and years such as 2180 are usual.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from multimodal.errors import UserError

ACCEPTED = "20180503, 2018-05-03, or either followed by a time: 2018-05-03 08:44, 08:44:00, 084400"
# The .0 is how tables with gaps write whole numbers.
DAY = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})(?:\.0)?")
TIME = re.compile(r"(\d{2})(:?)(\d{2})(?:\2(\d{2})(?:\.\d+)?)?")
NOON = "120000"


class Moment(NamedTuple):
    """day: whole days since 1 January of the year 1. second: of that day, noon where unknown."""

    day: int
    second: int

    def days_from(self, other: Moment) -> int:
        """Whole days between the two dates, whatever the time of day."""
        return abs(self.day - other.day)

    def seconds_from(self, other: Moment) -> int:
        return abs((self.day - other.day) * 86_400 + self.second - other.second)


class Written(NamedTuple):
    """A cell that says when: its text, file, row and column, and a time of day beside a date."""

    text: str
    where: str
    time: str = ""

    @property
    def moment(self) -> Moment:
        return moment(self.text, self.where, time=self.time)


def moment(text: str, where: str, *, time: str = "") -> Moment:
    """``text`` is a date, with its time of day behind it (a space or T between) or in ``time``.

    where: file, row and column, for the UserError about what is no date, or none that exists.
    """
    day, _, inside = text.strip().replace("T", " ", 1).partition(" ")
    clock = inside.strip() or time.strip()
    dated, timed = DAY.fullmatch(day), TIME.fullmatch(clock or NOON)
    if dated is None or timed is None:
        raise _no_date(text if dated is None or inside else f"{text}, time {time}", where)
    year, month, date = (int(dated[n]) for n in (1, 3, 4))
    hour, minute, second = (int(timed[n] or 0) for n in (1, 3, 4))
    try:
        found = datetime(year, month, date, hour, minute, second)
    except ValueError as error:
        raise _no_date(text, where, f" ({error})") from error
    return Moment(found.toordinal() - 1, hour * 3600 + minute * 60 + second)


def _no_date(text: str, where: str, why: str = "") -> UserError:
    shown = repr(text) if text.strip() else "empty"
    return UserError(f"{where} is {shown}, no date{why}; write dates as {ACCEPTED}.")
