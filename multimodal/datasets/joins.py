"""Which recordings of one patient belong together, by time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Literal

from multimodal.datasets.moments import Moment

How = Literal["all_within_days", "nearest", "one_per_patient"]
# A row of each modality's manifest, in the order of the modalities; -1: absent.
Case = tuple[int, ...]


def cases_of(
    rows: Sequence[Sequence[int]],
    moments: Sequence[Mapping[int, Moment]],
    *,
    how: How,
    days: int | None,
    absent: bool,
) -> list[Case]:
    """The cases of one patient, ascending.

    rows: of each modality, the patient's rows of its manifest. moments: of each modality, when a
    row was recorded; not asked for where ``days`` is None and ``how`` is all_within_days.
    how, days, absent: see ``pairing.pair``.
    """

    def gap(place: int, row: int, other: int, its: int) -> int:
        return moments[place][row].seconds_from(moments[other][its])

    def near(place: int, row: int, other: int, its: int) -> bool:
        return days is None or moments[place][row].days_from(moments[other][its]) <= days

    cases = _joined(rows, 0, how, near, gap)
    if not absent:
        cases = [case for case in cases if min(case) >= 0]
    if how == "one_per_patient" and cases:
        cases = [min(cases, key=lambda case: _spread(case, gap))]
    return sorted(cases)


Within = Callable[[int, int, int, int], bool]
Gap = Callable[[int, int, int, int], int]


def _joined(
    rows: Sequence[Sequence[int]], lead: int, how: How, near: Within, gap: Gap
) -> list[Case]:
    """Cases of modality ``lead`` with those behind it, then of what no lead recording is near."""
    if lead == len(rows):
        return []
    others = range(lead + 1, len(rows))
    reached: list[set[int]] = [set() for _ in rows]
    cases = []
    for row in rows[lead]:
        options: list[Sequence[int]] = [*[(-1,)] * lead, (row,)]
        for other in others:
            found = [its for its in rows[other] if near(lead, row, other, its)]
            reached[other].update(found)
            if how == "nearest" and found:
                found = [min(found, key=lambda its, o=other: (gap(lead, row, o, its), its))]
            options.append(found or (-1,))
        cases += product(*options)
    rest = [
        [row for row in its if row not in seen] for its, seen in zip(rows, reached, strict=True)
    ]
    return cases + _joined(rest, lead + 1, how, near, gap)


def _spread(case: Case, gap: Gap) -> tuple[int, int, Case]:
    """What is least for the best case of a patient: modalities absent, seconds apart, rows."""
    there = [place for place, row in enumerate(case) if row >= 0]
    lead = there[0]
    apart = sum(gap(lead, case[lead], place, case[place]) for place in there[1:])
    return len(case) - len(there), apart, case
