"""MIT-BIH Arrhythmia Database: annotated beats of two-lead half-hour ECGs, 360 Hz (ODC-By 1.0)."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import seeded_split
from multimodal.downloads import PHYSIONET, Download
from multimodal.errors import UserError
from multimodal.modalities.wfdb_files import call_wfdb, read_header
from multimodal.recordings import Manifest, Recording

# ANSI/AAMI EC57; every other symbol is no beat.
SYMBOLS = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
AAMI = {symbol: name for name, symbols in SYMBOLS.items() for symbol in symbols}
PACED = ("102", "104", "107", "217")
# De Chazal et al., IEEE Trans. Biomed. Eng. 51(7), 2004, table I.
DS1_LIST = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
DS2_LIST = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"
DS1, DS2 = tuple(DS1_LIST.split()), tuple(DS2_LIST.split())
BEATS = {"DS1": 51_021, "DS2": 49_712}
# Beats without room for the default window at an end of their record.
AT_AN_EDGE = {"DS1": 18, "DS2": 20}
TEXTS = {
    "N": "normal beat",
    "L": "left bundle branch block beat",
    "R": "right bundle branch block beat",
    "e": "atrial escape beat",
    "j": "nodal escape beat",
    "A": "atrial premature beat",
    "a": "aberrated atrial premature beat",
    "J": "nodal premature beat",
    "S": "supraventricular premature beat",
    "V": "premature ventricular contraction",
    "E": "ventricular escape beat",
    "F": "fusion of ventricular and normal beat",
    "/": "paced beat",
    "f": "fusion of paced and normal beat",
    "Q": "unclassifiable beat",
}
EXPECTED = "records such as 101.hea, 101.dat and 101.atr"


class _Beat(NamedTuple):
    record: str
    sample: int
    symbol: str
    rate: float
    frames: int

    @property
    def uid(self) -> str:
        return f"{self.record}/{self.sample:06d}"

    @property
    def name(self) -> str:
        return AAMI[self.symbol]

    @property
    def group(self) -> str:
        # One patient: the header of 202 says that it comes from the analog tape of 201.
        return "201+202" if self.record in ("201", "202") else self.record


@DATASETS.register("mitbih")
class MitbihConfig(DatasetConfig):
    """One recording a beat: a window around the annotated R peak; classes are AAMI N S V F Q.

    split: ``by_record`` holds out whole records, in a seeded order, until every class has about
    ``test_fraction`` of its beats and at least one there, or exactly ``test_records`` if they are
    named; ``ds1_ds2`` is the inter-patient split of de Chazal et al., which has one patient on both
    sides (records 201 and 202); ``ds1_ds2_strict`` leaves 202 out. ``within_record`` takes the last
    ``test_fraction`` of the time of every record: it measures how well KNOWN patients' beats are
    told apart, and must not be compared with the others.

    before, after: seconds around the R peak; beats without that room are left out and counted in
    the split rule. paced: keep the records 102 104 107 217, which AAMI leaves out. classes: the
    AAMI classes to keep, also their order. max_per_record: at most so many beats of each class and
    record (None: all), chosen by ``seed``. min_beats: leave out classes with fewer beats in train
    or in test; with 0 such a class is an error (Q has 8 beats in DS1 and 7 in DS2). Most classes
    sit in few patients, so classes are confounded with identity.
    """

    folder: ClassVar[str] = "mitbih"
    modalities: ClassVar[tuple[str, ...]] = ("ecg",)
    summary: ClassVar[str] = "MIT-BIH Arrhythmia Database: beats of 5 AAMI classes, 2 leads, 360 Hz"
    licence: ClassVar[str] = "ODC-By 1.0"
    how_to_get: ClassVar[str] = (
        "Unpack https://physionet.org/content/mitdb/get-zip/1.0.0/ into the folder mitbih."
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(f"{PHYSIONET}/mitdb/mit-bih-arrhythmia-database-1.0.0.zip"),
    )

    split: Literal["by_record", "ds1_ds2", "ds1_ds2_strict", "within_record"] = "by_record"
    test_fraction: float = Field(default=0.3, gt=0, lt=1)
    test_records: tuple[str, ...] | None = None
    seed: int = 0
    before: float = Field(default=0.25, ge=0, le=10)
    after: float = Field(default=0.4, gt=0, le=10)
    paced: bool = False
    classes: tuple[Literal["N", "S", "V", "F", "Q"], ...] = ("N", "S", "V", "F", "Q")
    max_per_record: int | None = Field(default=None, ge=1)
    min_beats: int = Field(default=0, ge=0)

    def build(self, root: Path) -> Manifest:
        """UserError for missing records, unreadable annotations, and classes on one side only."""
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UserError(f"classes {list(self.classes)}: name each class once, at least one.")
        if self.test_records is not None and self.split != "by_record":
            raise UserError(f"test_records needs split='by_record', not split={self.split!r}.")
        records = self._records(root)
        beats = [beat for record in records for beat in _beats(root / f"{record}.hea")]
        beats = [beat for beat in beats if beat.name in self.classes]
        roomy = [beat for beat in beats if self._has_room(beat)]
        kept, dropped = self._limited(roomy), []
        if self.min_beats and self.split == "by_record" and self.test_records is None:
            kept, dropped = _without_single_groups(kept)
        splits = self._splits(kept)
        pairs = [(b, s) for b, s in zip(kept, splits, strict=True) if s]
        pairs, narrow = self._without_narrow(pairs, dropped)
        names = tuple(name for name in self.classes if name not in narrow)
        rule = self._rule(pairs, edge=len(beats) - len(roomy), narrow=narrow)
        return Manifest(
            name="mitbih",
            modality="ecg",
            class_names=names,
            recordings=tuple(self._recording(root, b, s, names) for b, s in pairs),
            # The files name no release; 1.0.0 is the only one.
            version=f"1.0.0: {len(records)} records",
            licence=self.licence,
            citation="G. B. Moody and R. G. Mark, IEEE Eng. in Med. and Biol. 20(3):45-50, 2001, "
            "doi:10.13026/C2F305",
            split_rule=rule,
            group_overlap=self._overlap(),
            root=root,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """Beats per split of ``ds1_ds2`` with the default window and all beats; else None."""
        if self != MitbihConfig(split="ds1_ds2", root=self.root):
            return None
        sides = {"train": "DS1", "test": "DS2"}
        return {split: BEATS[side] - AT_AN_EDGE[side] for split, side in sides.items()}

    def _records(self, root: Path) -> list[str]:
        found = [e.stem for e in entries(root, EXPECTED) if e.suffix == ".hea"]
        # Files such as x_108.hea are an addition to the database and no recordings of their own.
        found = [name for name in found if not name.startswith("x_")]
        if not found:
            raise wrong_folder(root, EXPECTED)
        wanted = {"ds1_ds2": {*DS1, *DS2}, "ds1_ds2_strict": {*DS1, *DS2} - {"202"}}.get(self.split)
        if wanted is None:
            wanted = {name for name in found if self.paced or name not in PACED}
            wanted |= set(self.test_records or ())
        missing = sorted(wanted - set(found))
        if missing:
            raise UserError(
                f"{root}: there is no record {', '.join(missing)}, which split={self.split!r} and "
                f"test_records={self.test_records} need; records there: {', '.join(found)}."
            )
        return [name for name in found if name in wanted]

    def _has_room(self, beat: _Beat) -> bool:
        first = beat.sample - round(self.before * beat.rate)
        return first >= 0 and beat.sample + round(self.after * beat.rate) <= beat.frames

    def _limited(self, beats: list[_Beat]) -> list[_Beat]:
        """At most ``max_per_record`` of each class and record, in an order set by the seed."""
        if self.max_per_record is None:
            return beats
        cells: dict[tuple[str, str], list[_Beat]] = defaultdict(list)
        for beat in beats:
            cells[beat.record, beat.name].append(beat)

        def rank(beat: _Beat) -> bytes:
            return hashlib.sha256(f"{self.seed} {beat.uid}".encode()).digest()

        return [b for cell in cells.values() for b in sorted(cell, key=rank)[: self.max_per_record]]

    def _splits(self, beats: list[_Beat]) -> list[str]:
        """ "train" or "test" for each beat, "" for those that touch both sides of a cut in time."""
        if self.split == "within_record":
            return [self._side_in_time(beat) for beat in beats]
        if self.split != "by_record":
            return ["train" if beat.record in DS1 else "test" for beat in beats]
        if self.test_records is not None:
            return ["test" if beat.record in self.test_records else "train" for beat in beats]
        return seeded_split(
            [beat.uid for beat in beats],
            [beat.name for beat in beats],
            groups=[beat.group for beat in beats],
            test_fraction=self.test_fraction,
            seed=self.seed,
        )

    def _side_in_time(self, beat: _Beat) -> str:
        cut = round((1 - self.test_fraction) * beat.frames)
        if beat.sample + round(self.after * beat.rate) <= cut:
            return "train"
        return "test" if beat.sample - round(self.before * beat.rate) >= cut else ""

    def _without_narrow(
        self, pairs: list[tuple[_Beat, str]], dropped: list[str]
    ) -> tuple[list[tuple[_Beat, str]], list[str]]:
        """The beats of classes with enough of them on both sides, and the other classes."""
        sides = {side: Counter(b.name for b, s in pairs if s == side) for side in ("train", "test")}
        counts = {name: min(side[name] for side in sides.values()) for name in self.classes}
        narrow = [n for n in self.classes if n in dropped or counts[n] < max(1, self.min_beats)]
        if narrow and not self.min_beats:
            n = narrow[0]
            raise UserError(
                f"class {n!r} has {sides['train'][n]} train and {sides['test'][n]} test beats; "
                "set min_beats=1 to leave such classes out, or name the classes."
            )
        if len(narrow) == len(self.classes):
            raise UserError(
                f"min_beats={self.min_beats}: no class has that many beats in train and in test."
            )
        return [(b, s) for b, s in pairs if b.name not in narrow], narrow

    def _recording(self, root: Path, beat: _Beat, split: str, names: tuple[str, ...]) -> Recording:
        before, after = round(self.before * beat.rate), round(self.after * beat.rate)
        return Recording(
            uid=beat.uid,
            labels=(names.index(beat.name),),
            split=split,
            path=root / f"{beat.record}.dat",
            group=beat.group,
            text=TEXTS[beat.symbol],
            start=(beat.sample - before) / beat.rate,
            duration=(before + after) / beat.rate,
        )

    def _rule(self, pairs: list[tuple[_Beat, str]], *, edge: int, narrow: list[str]) -> str:
        tested = ", ".join(sorted({beat.record for beat, side in pairs if side == "test"}))
        last = f"the last {self.test_fraction:g} of each record's time is test"
        how = f"seeded (test_fraction {self.test_fraction:g}, seed {self.seed})"
        how = how if self.test_records is None else "named"
        rules = {
            "by_record": f"by record, {how}: test records {tested}",
            "ds1_ds2": "ds1_ds2 (de Chazal): DS1 train, DS2 test",
            "ds1_ds2_strict": "ds1_ds2_strict: DS1 train, DS2 without record 202 test",
            "within_record": f"WITHIN record, not by patient: {last}",
        }
        words = [rules[self.split]]
        if self.max_per_record is not None:
            limit = f"{self.max_per_record} beats a class and record (seed {self.seed})"
            words.append(f"at most {limit}")
        if edge:
            words.append(f"{edge} beat(s) at a record's edge left out")
        if narrow:
            reason = f"fewer than {self.min_beats} beats in train or test"
            words.append(f"class(es) {', '.join(narrow)} left out: {reason}")
        return "; ".join(words)

    def _overlap(self) -> str:
        if self.split == "within_record":
            return "within_record: every record is cut in time, so its patient stands on both sides"
        if self.split == "ds1_ds2":
            return "the official DS1/DS2 has one patient on both sides: records 201 and 202"
        return ""


def _without_single_groups(beats: list[_Beat]) -> tuple[list[_Beat], list[str]]:
    """Leave out classes of one patient only, which no split by record can have on both sides."""
    groups: dict[str, set[str]] = defaultdict(set)
    for beat in beats:
        groups[beat.name].add(beat.group)
    single = [name for name, members in groups.items() if len(members) < 2]
    return [beat for beat in beats if beat.name not in single], single


def _beats(header: Path) -> list[_Beat]:
    """Every beat of a record, in order; other annotations are left out."""
    file = header.with_suffix(".atr")
    if not file.is_file() or not file.stat().st_size:
        raise UserError(f"{file}: missing or empty; it should hold the beats.")
    record = read_header(header)
    rate, frames = record.rate, record.frames
    notes = call_wfdb("rdann", file, "atr")
    beats = [
        _Beat(header.stem, int(sample), symbol, rate, frames)
        for sample, symbol in zip(notes.sample, notes.symbol, strict=True)
        if symbol in AAMI
    ]
    if not beats or beats[-1].sample >= frames:
        raise UserError(
            f"{file}: {len(beats)} beats, the last at sample {beats[-1].sample if beats else None} "
            f"of {frames}; damaged or of another record, copy it again."
        )
    return beats
