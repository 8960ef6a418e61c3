"""MIMIC-CXR-JPG 2.0.0 and 2.1.0: chest X-rays with mined labels, and the reports of MIMIC-CXR.

Johnson et al., MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs,
arXiv:1901.07042.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from multimodal.datasets import DATASETS, DatasetConfig, chexpert
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.findings import (
    Found,
    Policy,
    chosen_findings,
    finding_classes,
    findings,
    missing_images,
)
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.moments import Written
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording
from multimodal.registry import Distinct

LABELS = tuple(sorted(chexpert.LABELS))  # the table's order is the alphabet's
SPLITS = {"train": "train", "validate": "validation", "test": "test"}
COUNTS = {"train": 368_960, "validation": 2_991, "test": 5_159}
TABLE = re.compile(r"mimic-cxr-([0-9.]+)-(metadata|split|chexpert|negbio)\.csv(\.gz)?")
EXPECTED = "mimic-cxr-2.0.0-metadata.csv.gz, -split.csv.gz, -chexpert.csv.gz and files/"
VIEWS = {"frontal": ("PA", "AP"), "lateral": ("LATERAL", "LL")}
DICOM, NUMBER = re.compile(r"[0-9a-f]+(-[0-9a-f]+)*"), re.compile(r"[0-9]+")
REPORTS = ("files", "mimic-cxr-reports/files")
HEADING = re.compile(r"^[ \t]*([A-Z][A-Z ()/,-]*):", re.MULTILINE)
SECTIONS = {
    "findings": ("FINDINGS",),
    "impression": ("IMPRESSION",),
    "both": ("FINDINGS", "IMPRESSION"),
}


class Image(NamedTuple):
    """A row of the split's table."""

    dicom: str
    subject: str
    study: str
    split: str

    @property
    def uid(self) -> str:
        return f"{self.place}/{self.dicom}.jpg"

    @property
    def place(self) -> str:
        """The study's folder; its report has this name with the ending .txt."""
        return f"p{self.subject[:2]}/p{self.subject}/s{self.study}"


@DATASETS.register("mimic_cxr")
class MimicCxrConfig(DatasetConfig):
    """``files/p10/p10000032/s50414267/<dicom_id>.jpg`` and the tables, plain or gzipped.

    The official split ("validate" is validation); group = subject. Labels are the study's.

    labeler: whose table of labels. classes: ``competition`` (CheXpert's 5), ``all`` (14, "No
    Finding" among them), or a list of the table's labels. Recordings hold the ids of their
    positive classes, or none; all classes of a study that the table lacks are unknown.
    uncertain: what -1 means. ``u_zeros``: absent. ``u_ones``: present. ``u_map``: present for
    Atelectasis, Edema and Pleural Effusion, absent for Cardiomegaly and Consolidation.
    ``u_multi``: a class of its own, "Edema (uncertain)". ``u_drop``: images uncertain in any of
    the classes are left out. ``u_ignore``: unknown, so that the label is masked. Blank (not
    mentioned) always counts as absent.
    view: frontal (PA, AP), lateral (LATERAL, LL) or all. single_label: keep images with exactly
    one of the classes (and no unknown one), for class-incremental streams.
    texts: sections of the reports, which are a download of their own (mimic-cxr-reports.zip,
    unpacked here); "" where a report lacks them. Gaps of the de-identification read "___".
    allow_missing: leave out listed images without a file, and texts without a report.
    """

    folder: ClassVar[str] = "mimic_cxr"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "MIMIC-CXR-JPG: 377,110 chest X-rays, 14 mined labels, reports"
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data License"
    how_to_get: ClassVar[str] = (
        "Become a credentialed user of PhysioNet, sign the agreement of "
        "https://physionet.org/content/mimic-cxr-jpg/ and download it into the folder mimic_cxr; "
        "the reports are mimic-cxr-reports.zip of https://physionet.org/content/mimic-cxr/."
    )

    labeler: Literal["chexpert", "negbio"] = "chexpert"
    classes: Literal["competition", "all"] | Distinct = "competition"
    uncertain: Policy = "u_zeros"
    view: Literal["frontal", "lateral", "all"] = "frontal"
    single_label: bool = False
    texts: Literal["none", "findings", "impression", "both"] = "none"
    allow_missing: bool = False

    def build(self, root: Path) -> Manifest:
        """UserError for missing tables, images and reports, and for ids and values gone wrong."""
        names = chosen_findings(self.classes, LABELS, self.uncertain)
        tables, version = _tables(root, ("metadata", "split", self.labeler))
        labels = self._studies(tables[self.labeler], names)
        views = {
            row["dicom_id"]: row["ViewPosition"].strip().upper()
            for _, row in csv_rows(tables["metadata"], ("dicom_id", "ViewPosition"), others=True)
        }
        recordings, missing = [], []
        texts: dict[str, str] = {}
        for image in _images(tables["split"], views):
            found = labels.get(
                image.study, Found((), tuple(range(len(finding_classes(names, self.uncertain)))))
            )
            if found is None or not self._kept(views[image.dicom], found):
                continue
            path = root / "files" / image.uid
            if not path.is_file():
                missing.append(path)
                continue
            if image.study not in texts:
                texts[image.study] = self._text(root, image)
            recordings.append(
                Recording(
                    uid=f"files/{image.uid}",
                    labels=found.labels,
                    split=image.split,
                    path=path,
                    group=image.subject,
                    text=texts[image.study],
                    unknown=found.unknown,
                )
            )
        if missing and not self.allow_missing:
            raise missing_images(missing)
        return Manifest(
            name="mimic_cxr",
            modality="xray",
            class_names=finding_classes(names, self.uncertain),
            recordings=tuple(recordings),
            version=f"{version}; {self.labeler}, {self.uncertain}, blank = absent",
            licence=self.licence,
            citation="A. E. W. Johnson et al., MIMIC-CXR-JPG, arXiv:1901.07042, 2019",
            split_rule=f"official: {tables['split'].name}",
            root=root,
        )

    def moments(self, root: Path, column: str | None = None) -> dict[str, Written]:
        """StudyDate and, where the table has it, StudyTime: 73004.0 is four past 07:30."""
        tables, _ = _tables(root, ("metadata", "split", self.labeler))
        table, name = tables["metadata"], column or "StudyDate"
        found = {}
        for line, row in csv_rows(table, ("dicom_id", "subject_id", "study_id", name), others=True):
            place = Image(row["dicom_id"], row["subject_id"], row["study_id"], "")
            time = "" if column else row.get("StudyTime", "").strip().split(".")[0]
            where = f"{table}, line {line}: {name}"
            found[f"files/{place.uid}"] = Written(row[name], where, time and time.zfill(6))
        return found

    def expected_counts(self) -> dict[str, int] | None:
        """Reported images per split; None where settings leave some of them out."""
        reduced = self.view != "all" or self.uncertain == "u_drop" or self.single_label
        if reduced or self.allow_missing:
            return None
        return {split: Unverified(count) for split, count in COUNTS.items()}

    def _studies(self, table: Path, names: tuple[str, ...]) -> Mapping[str, Found | None]:
        """Study -> what is found in it; None: left out."""
        return {
            row["study_id"]: findings(row, names, self.uncertain, f"{table}, line {line}")
            for line, row in csv_rows(table, ("study_id", *LABELS), others=True)
        }

    def _kept(self, view: str, found: Found) -> bool:
        shown = self.view == "all" or view in VIEWS[self.view]
        return shown and (found.single or not self.single_label)

    def _text(self, root: Path, image: Image) -> str:
        """The wanted sections of the study's report, in its order, as one line."""
        if self.texts == "none":
            return ""
        paths = [root / reports / f"{image.place}.txt" for reports in REPORTS]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            if self.allow_missing:
                return ""
            raise UserError(
                f"{paths[0]}: no such report; unpack mimic-cxr-reports.zip in {root}, or set "
                "texts='none'."
            )
        try:
            return section(path.read_text(encoding="utf-8"), SECTIONS[self.texts])
        except UnicodeDecodeError as error:
            raise UserError(f"{path} cannot be read as UTF-8 text; copy it again.") from error


def section(report: str, wanted: tuple[str, ...]) -> str:
    """The parts of a report below headings that have a ``wanted`` word, as one line.

    A heading is in capitals, begins a line and ends with a colon: "FINDINGS:", or "FINDINGS AND
    IMPRESSION:", which has both words.
    """
    _, *pieces = HEADING.split(report)
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    kept = [body for heading, body in pairs if set(wanted) & set(re.findall("[A-Z]+", heading))]
    return " ".join(" ".join(kept).split())


def _tables(root: Path, kinds: tuple[str, ...]) -> tuple[dict[str, Path], str]:
    """Kind -> table, and the release that the tables' names tell."""
    tables: dict[str, Path] = {}
    versions: dict[str, str] = {}
    for path in entries(root, EXPECTED):
        match = TABLE.fullmatch(path.name)
        # Sorted: "a.csv" comes before its packed copy "a.csv.gz", and is quicker to read.
        if match is not None and tables.setdefault(match[2], path) == path:
            versions[match[2]] = match[1]
    if not set(kinds) <= set(tables) or not (root / "files").is_dir():
        raise wrong_folder(root, EXPECTED)
    return tables, versions["split"]


def _images(table: Path, views: Mapping[str, str]) -> Iterator[Image]:
    """The rows of the split's table; UserError for ids of another form and unknown splits."""
    for line, row in csv_rows(table, ("dicom_id", "study_id", "subject_id", "split"), others=True):
        image = Image(row["dicom_id"], row["subject_id"], row["study_id"], row["split"])
        where = f"{table}, line {line}"
        numbers = (image.subject, image.study)
        if DICOM.fullmatch(image.dicom) is None or not all(map(NUMBER.fullmatch, numbers)):
            raise UserError(f"{where}: dicom_id, study_id or subject_id is not of the usual form.")
        if image.split not in SPLITS:
            raise UserError(f"{where}: split {image.split!r} is none of {', '.join(SPLITS)}.")
        if image.dicom not in views:
            raise UserError(f"{where}: dicom_id is not in the table of metadata; restore it.")
        yield image._replace(split=SPLITS[image.split])
