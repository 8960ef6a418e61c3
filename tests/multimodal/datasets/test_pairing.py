"""Cases by patient and time, against a join that goes through all combinations."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.datasets.matching import Pairing, pair
from multimodal.datasets.moments import Written, moment
from multimodal.datasets.pairing import Cases
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

NAMES = ("xray", "ecg", "audio")
START = date(2150, 1, 1)


class Table:
    """Recordings of one modality: (patient, day) each, day None for a date that cannot be read."""

    def __init__(self, modality: str, rows: list[tuple[str, int | None]], text: str = "t") -> None:
        recordings = [
            Recording(f"{modality}/{n:03d}", (), split_of(patient), group=patient, text=text)
            for n, (patient, _) in enumerate(rows)
        ]
        self.manifest = Manifest(modality, modality, (), tuple(recordings), "1")
        self.days = [day for _, day in rows]
        self.written = {
            r.uid: Written(
                "soon" if day is None else str(START + timedelta(day)), f"{modality}.csv, line {n}"
            )
            for n, (r, day) in enumerate(zip(recordings, self.days, strict=True), start=2)
        }


def split_of(patient: str) -> str:
    return {"0": "train", "1": "test", "2": "validation"}.get(patient[-1:], "train")


def paired(tables: list[Table], rule: dict[str, Any] | None = None) -> Cases:
    names = [t.manifest.modality for t in tables]
    return pair(
        {m: t.manifest for m, t in zip(names, tables, strict=True)},
        {m: t.written for m, t in zip(names, tables, strict=True)},
        Pairing.parse({"reports": "optional", **(rule or {})}),
    )


def oracle(tables: list[Table], how: str, days: int | None, absent: bool) -> set[tuple[int, ...]]:
    """All combinations of rows, or -1, of all tables; those that are cases by the definition.

    The lead of a combination is its first recording. It is a case if all are of one patient and
    near the lead, if nothing earlier than the lead could have been its lead instead, and if what
    is absent behind the lead has no recording that is near and free.
    """

    def near(a: int, row: int, b: int, other: int) -> bool:
        if tables[a].manifest.groups[row] != tables[b].manifest.groups[other]:
            return False
        return days is None or abs(tables[a].days[row] - tables[b].days[other]) <= days  # type: ignore[operator]

    def free(place: int, row: int, lead: int) -> bool:
        """No lead before ``lead`` that is itself free has it near."""
        return not any(
            free(earlier, its, earlier) and near(earlier, its, place, row)
            for earlier in range(lead)
            for its in range(len(tables[earlier].days))
        )

    def seconds(a: int, row: int, b: int, other: int) -> int:
        return 86_400 * abs(tables[a].days[row] - tables[b].days[other])  # type: ignore[operator]

    cases = set()
    for combination in product(*[[-1, *range(len(t.days))] for t in tables]):
        there = [place for place, row in enumerate(combination) if row >= 0]
        if not there:
            continue
        lead, row = there[0], combination[there[0]]
        good = free(lead, row, lead)
        for place in range(lead + 1, len(tables)):
            options = [
                its
                for its in range(len(tables[place].days))
                if near(lead, row, place, its) and free(place, its, lead)
            ]
            if how == "nearest":
                options = sorted(options, key=lambda o, p=place: (seconds(lead, row, p, o), o))[:1]
            good = good and combination[place] in (options or [-1])
        if good and (absent or len(there) == len(tables)):
            cases.add(combination)
    if how != "one_per_patient":
        return cases
    best: dict[str, tuple] = {}
    for case in cases:
        there = [place for place, row in enumerate(case) if row >= 0]
        spread = sum(seconds(there[0], case[there[0]], p, case[p]) for p in there[1:])
        patient = str(tables[there[0]].manifest.groups[case[there[0]]])
        key = (len(case) - len(there), spread, case)
        best[patient] = min(best.get(patient, key), key)
    return {key[2] for key in best.values()}


ROWS = st.lists(st.tuples(st.sampled_from(["p0", "p1", "p2"]), st.integers(0, 12)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    drawn=st.lists(ROWS.filter(len), min_size=2, max_size=3),
    how=st.sampled_from(["all_within_days", "nearest", "one_per_patient"]),
    days=st.one_of(st.none(), st.integers(0, 6)),
    absent=st.booleans(),
)
def test_cases_are_those_of_a_join_over_all_combinations(drawn, how, days, absent) -> None:
    tables = [Table(m, rows) for m, rows in zip(NAMES, drawn, strict=False)]
    expected = oracle(tables, how, days, absent)
    rule = {"how": how, "days": days, "absent": absent}
    if not expected:
        with pytest.raises(UserError, match="no patient has a case"):
            paired(tables, rule)
        return
    cases = paired(tables, rule)
    found = [tuple(int(rows[i]) for rows in cases.rows.values()) for i in range(len(cases))]
    assert len(set(found)) == len(found)
    assert set(found) == expected
    for case, group, split in zip(found, cases.groups, cases.splits, strict=True):
        for table, row in zip(tables, case, strict=True):
            assert row < 0 or table.manifest.groups[row] == group
        assert split == split_of(group)
    for place, table in enumerate(tables):
        unused = len(table.days) - len({case[place] for case in found} - {-1})
        assert cases.left_out.get(f"{table.manifest.modality} recordings of no case", 0) == unused
    whole = [min(case) >= 0 for case in found]
    assert sum(cases.pairs_per_patient.values()) == sum(whole) == cases.counts["complete cases"]


def test_two_of_an_image_and_the_closest_of_two() -> None:
    xray = Table("xray", [("p0", 10), ("p0", 100), ("p1", 5)])
    ecg = Table("ecg", [("p0", 0), ("p0", 12), ("p0", 300), ("p2", 5)])
    everything = paired([xray, ecg], {"absent": True})
    assert everything.rows["xray"].tolist() == [-1, 0, 0, 1, 2, -1]
    assert everything.rows["ecg"].tolist() == [2, 0, 1, -1, -1, 3]
    assert everything.splits == ("train",) * 4 + ("test", "validation")
    assert everything.pairs("xray", "ecg").tolist() == [[0, 0], [0, 1]]
    assert everything.pairs_per_patient == {"p0": 2}
    assert everything.counts["patients without a pair"] == 2
    assert "3 patients, 2 patients without a pair" in everything.summary
    nearest = paired([xray, ecg], {"how": "nearest"})
    assert (nearest.rows["xray"].tolist(), nearest.rows["ecg"].tolist()) == ([0], [1])
    assert nearest.left_out == {
        "patients without a case": 2,
        "xray recordings of no case": 2,
        "ecg recordings of no case": 3,
    }
    assert nearest.summary == (
        "1 cases, 1 patients, 1 complete cases, 1 cases with a text, 1 cases with xray, "
        "1 xray recordings, 1 cases with ecg, 1 ecg recordings, 1 train cases; complete cases per "
        "patient: median 1, at most 1; left out: 2 patients without a case; 2 xray recordings of "
        "no case; 3 ecg recordings of no case"
    )


def test_the_time_of_day_decides_between_days_but_not_on_the_window() -> None:
    xray, ecg = Table("xray", [("p0", 0)]), Table("ecg", [("p0", 0), ("p0", 0)])
    xray.written = {"xray/000": Written("2150-03-02 00:10:00", "x")}
    times = ("2150-03-02 23:50", "2150-03-01 23:50")
    ecg.written = {f"ecg/{n:03d}": Written(text, "e") for n, text in enumerate(times)}
    assert paired([xray, ecg], {"how": "nearest"}).rows["ecg"].tolist() == [1]
    assert paired([xray, ecg], {"how": "nearest", "days": 0}).rows["ecg"].tolist() == [0]


def test_a_patient_has_one_split_whatever_the_tables_say() -> None:
    xray, ecg = Table("xray", [("p0", 0), ("p1", 0)]), Table("ecg", [("p0", 0), ("p1", 0)])
    other = replace(ecg.manifest, recordings=tuple(replace(r, split="test") for r in ecg.manifest))
    ecg.manifest = other
    cases = paired([xray, ecg])
    assert cases.splits == ("train", "test")
    assert cases.manifests["ecg"].splits.tolist() == ["train", "test"]
    assert cases.manifests["xray"] is xray.manifest
    seeded = paired([xray, ecg], {"splits": "seeded", "test_fraction": 0.9})
    assert seeded.splits == tuple(seeded.manifests["xray"].splits)
    leaky = replace(xray.manifest, group_overlap="official")
    rows = (*leaky.recordings, replace(leaky.recordings[0], uid="xray/9", split="test"))
    xray.manifest = replace(leaky, recordings=rows)
    xray.written["xray/9"] = xray.written["xray/000"]
    with pytest.raises(UserError, match=r"1 patient\(s\) stand in two splits \(p0\)"):
        paired([xray, ecg])
    assert len(paired([xray, ecg], {"splits": "seeded"})) == 3


def test_the_leak_checker_looks_at_cases() -> None:
    cases = paired([Table("xray", [("p0", 0), ("p0", 0)]), Table("ecg", [("p0", 0)])])
    with pytest.raises(UserError, match=r"stand in two splits \(p0\)"):
        replace(cases, splits=("train", "test"))
    with pytest.raises(UserError, match="no cases found"):
        cases.select([])


def test_texts_prefixes_and_identities() -> None:
    xray = Table("xray", [("p0", 0), ("p0", 0)], " lungs clear ")
    ecg = Table("ecg", [("p0", 0), ("p1", 0)], "sinus rhythm")
    cases = paired([xray, ecg], {"prefixes": {"ecg": "ECG: "}, "absent": True})
    assert cases.texts == ("lungs clear ECG: sinus rhythm",) * 2 + ("ECG: sinus rhythm",)
    assert cases.text_ids.tolist() == [0, 0, 1]
    assert cases.group_ids.tolist() == [0, 0, 1]
    silent = Table("xray", [("p0", 0)], "")
    both = paired([silent, Table("ecg", [("p0", 0)], "")])
    assert both.texts == ("",)
    assert both.text_ids.tolist() == [-1]
    assert not both.synthetic


def test_the_content_hash_tells_every_case() -> None:
    tables = [Table("xray", [("p0", 0), ("p1", 3)]), Table("ecg", [("p0", 1), ("p1", 3)])]
    cases = paired(tables)
    assert cases.content_hash == paired(tables).content_hash
    others = [
        replace(cases, texts=("a", "b")),
        replace(cases, splits=("test", "test")),
        replace(cases, groups=("a", "b")),
        replace(cases, rows={**cases.rows, "ecg": np.array([1, 0])}),
        cases.select([0]),
        replace(
            cases, manifests={**cases.manifests, "ecg": Table("ecg", [("p9", 0)] * 2).manifest}
        ),
    ]
    hashes = {cases.content_hash, *(other.content_hash for other in others)}
    assert len(hashes) == 1 + len(others)


def test_what_has_no_report_no_date_or_no_patient_is_counted_or_refused() -> None:
    xray, ecg = Table("xray", [("p0", 0), ("", 0)]), Table("ecg", [("p0", 0), ("p0", None)])
    with pytest.raises(
        UserError, match=r"^ecg.csv, line 3 is 'soon', no date; write dates as 2018"
    ):
        paired([xray, ecg])
    cases = paired([xray, ecg], {"dates": "leave_out"})
    assert cases.left_out == {
        "xray recordings without a patient": 1,
        "ecg recordings without a date": 1,
    }
    silent = Table("ecg", [("p0", 0)], " ")
    with pytest.raises(UserError, match=r"none of 1 ecg recordings has a report; .*=optional"):
        paired([xray, silent], {"reports": "needed"})
    with pytest.raises(UserError, match=r"none of 1 ecg recordings has a patient; .*group_column"):
        paired([xray, Table("ecg", [("", 0)])])
    with pytest.raises(UserError, match=r"patients 1 of xray, 1 of ecg, 0 of all; check that all"):
        paired([xray, Table("ecg", [("p00", 0)])])
    with pytest.raises(UserError, match=r"1 of xray, 1 of ecg, 1 of all; raise pairing\.days"):
        paired([xray, Table("ecg", [("p0", 61)])])
    with pytest.raises(ValidationError, match="leaves no train split"):
        Pairing(test_fraction=0.6, validation_fraction=0.4)


@pytest.mark.parametrize(
    ("text", "time", "day", "second"),
    [
        ("20180503", "", "2018-05-03", 43200),
        ("20180503.0", "", "2018-05-03", 43200),
        (" 2180-07-23 08:44:00 ", "", "2180-07-23", 31440),
        ("2018-05-03T08:44", "", "2018-05-03", 31440),
        ("20180503", "084400", "2018-05-03", 31440),
        ("20180503 084400.25", "", "2018-05-03", 31440),
    ],
)
def test_dates(text: str, time: str, day: str, second: int) -> None:
    found = moment(text, "t.csv, line 2", time=time)
    assert found == (date.fromisoformat(day).toordinal() - 1, second)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("", ""),
        ("03.05.2018", ""),
        ("05/03/2018", ""),
        ("2018-02-30", ""),
        ("2018-13-01", ""),
        ("2018-0503", ""),
        ("20180503 25:00", ""),
        ("20180503", "8am"),
        ("nan", ""),
        ("2018-05-03 08:44:00+02:00", ""),
    ],
)
def test_what_is_no_date_is_told_with_its_place(text: str, time: str) -> None:
    with pytest.raises(UserError, match=r"^t\.csv, line 2: StudyDate is (empty|'.*), no date") as e:
        moment(text, "t.csv, line 2: StudyDate", time=time)
    assert "\n" not in str(e.value)
    assert "write dates as 20180503, 2018-05-03" in str(e.value)
