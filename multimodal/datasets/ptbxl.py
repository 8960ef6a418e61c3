"""PTB-XL: 12-lead ECGs of 10 s with SCP statements (Wagner et al. 2020, CC BY 4.0)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.csv_files import csv_rows
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.downloads import PHYSIONET, Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

TABLE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
EXPECTED = f"{TABLE}, {STATEMENTS} and records100/ or records500/"
RELEASES = {21_837: "1.0.1", 21_799: "1.0.3"}
FOLDS = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
COLUMNS = ("ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr", "filename_hr")
# Release 1.0.3: train, validation, test (folds 1-8, 9, 10).
COUNTS = {
    "superdiagnostic": (17_084, 2_146, 2_158),
    "subdiagnostic": (17_084, 2_146, 2_158),
    "form": (7_197, 901, 880),
    "rhythm": (16_832, 2_100, 2_098),
}
SINGLE_COUNTS = {"superdiagnostic": (12_957, 1_637, 1_650)}


@DATASETS.register("ptbxl")
class PtbxlConfig(DatasetConfig):
    """Multi-label: the statements of a task that a record has, classes in alphabetical order.

    task: ``superdiagnostic`` (CD HYP MI NORM STTC), ``subdiagnostic``, ``diagnostic``, ``form``,
    ``rhythm`` or ``all``, as in the official benchmark (Strodthoff et al. 2021): folds 1-8 are
    train, 9 validation, 10 test, and records without a label of the task are left out.
    min_likelihood: percent; a statement counts if it is at least that likely. The benchmark's rule
    is 0, so a statement of likelihood 0 counts too. single_label: keep only records with exactly
    one label. rate: 100 or 500 Hz files. texts: ``statements`` (their descriptions) or ``report``
    (mostly German).
    """

    folder: ClassVar[str] = "ptbxl"
    modalities: ClassVar[tuple[str, ...]] = ("ecg",)
    summary: ClassVar[str] = "PTB-XL: 21,799 12-lead ECGs of 10 s, 71 SCP statements"
    licence: ClassVar[str] = "CC BY 4.0"
    how_to_get: ClassVar[str] = (
        "Unpack https://physionet.org/content/ptb-xl/get-zip/1.0.3/ into the folder ptbxl."
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            f"{PHYSIONET}/ptb-xl/"
            "ptb-xl-a-large-publicly-available-electrocardiography-dataset-1.0.3.zip"
        ),
    )

    task: Literal["all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm"] = (
        "superdiagnostic"
    )
    rate: Literal[100, 500] = 100
    min_likelihood: float = Field(default=0.0, ge=0, le=100)
    single_label: bool = False
    texts: Literal["statements", "report"] = "statements"

    def build(self, root: Path) -> Manifest:
        """UserError for missing tables, columns and files, and for rows that make no sense."""
        entries(root, EXPECTED)
        if not all((root / name).is_file() for name in (TABLE, STATEMENTS)):
            raise wrong_folder(root, EXPECTED)
        statements = csv_rows(root / STATEMENTS, ("", "description", "diagnostic"), others=True)
        by_code = {row[""]: row for _, row in statements}
        class_of = {code: name for code, row in by_code.items() if (name := self._class(code, row))}
        names = tuple(sorted(set(class_of.values())))
        ids = {name: i for i, name in enumerate(names)}
        rows = dict(csv_rows(root / TABLE, COLUMNS, others=True))
        recordings = []
        for number, row in rows.items():
            where = f"{root / TABLE}, line {number}"
            codes = self._codes(row["scp_codes"], by_code, where)
            labels = sorted({ids[class_of[code]] for code in codes if code in class_of})
            if labels and (len(labels) == 1 or not self.single_label):
                recordings.append(self._recording(root, row, tuple(labels), codes, by_code, where))
        _refuse_missing(root, recordings)
        return Manifest(
            name="ptbxl",
            modality="ecg",
            class_names=names,
            recordings=tuple(recordings),
            version=RELEASES.get(len(rows), f"unknown release of {len(rows)} records"),
            licence=self.licence,
            citation="P. Wagner et al., Scientific Data 7:154, 2020, doi:10.13026/kfzx-aw45",
            split_rule=self._rule(),
            root=root,
        )

    def expected_counts(self) -> dict[str, int] | None:
        """Recordings per split of release 1.0.3 under the official rule; None where unknown."""
        counts = (SINGLE_COUNTS if self.single_label else COUNTS).get(self.task)
        if counts is None or self.min_likelihood > 0:
            return None
        return dict(zip(("train", "validation", "test"), counts, strict=True))

    def _class(self, code: str, row: Mapping[str, str]) -> str:
        """The class of a statement in this task; "" if it belongs to none."""
        kind = {"subdiagnostic": "diagnostic", "superdiagnostic": "diagnostic"}
        column = {"subdiagnostic": "diagnostic_subclass", "superdiagnostic": "diagnostic_class"}
        if self.task == "all":
            return code
        marked = row.get(kind.get(self.task, self.task), "").strip() in ("1", "1.0")
        return row.get(column[self.task], "") if marked and self.task in column else code * marked

    def _codes(self, text: str, known: Mapping[str, object], where: str) -> list[str]:
        """Codes that are likely enough, of a cell such as {'NORM': 100.0, 'SR': 0.0}."""
        try:
            likelihoods = {str(k): float(v) for k, v in ast.literal_eval(text).items()}
        except (ValueError, SyntaxError, AttributeError, TypeError) as error:
            raise UserError(
                f"{where}: scp_codes {text[:60]!r} is not of the form {{'NORM': 100.0}}; restore "
                "the file."
            ) from error
        unknown = sorted(set(likelihoods) - set(known))
        if unknown:
            raise UserError(f"{where}: statement {unknown[0]!r} is not in {STATEMENTS}.")
        return [code for code, value in likelihoods.items() if value >= self.min_likelihood]

    def _recording(
        self,
        root: Path,
        row: Mapping[str, str],
        labels: tuple[int, ...],
        codes: list[str],
        by_code: Mapping[str, Mapping[str, str]],
        where: str,
    ) -> Recording:
        name = row["filename_lr" if self.rate == 100 else "filename_hr"]
        try:
            split = FOLDS[int(float(row["strat_fold"]))]
            patient = str(int(float(row["patient_id"])))  # written as 18792.0
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{where}: strat_fold {row['strat_fold']!r} (1 to 10) or patient_id "
                f"{row['patient_id']!r} (a number) makes no sense; restore the file."
            ) from error
        described = ", ".join(by_code[code]["description"] for code in codes)
        return Recording(
            uid=name,
            labels=labels,
            split=split,
            path=root / f"{name}.dat",
            group=patient,
            text=described if self.texts == "statements" else row.get("report", ""),
        )

    def _rule(self) -> str:
        words = ["official: folds 1-8 train, 9 validation, 10 test", f"task {self.task}"]
        words.append(f"likelihood >= {self.min_likelihood:g} %")
        if self.single_label:
            words.append("only records with one label")
        return "; ".join(words)


def _refuse_missing(root: Path, recordings: list[Recording]) -> None:
    """UserError if a signal file is not there; one listing a folder instead of one look a file."""
    folders = {r.path.parent for r in recordings if r.path is not None}
    there = {f / e.name for f in folders if f.is_dir() for e in f.iterdir()}
    missing = [r for r in recordings if r.path not in there]
    if missing:
        raise UserError(
            f"{missing[0].where}: listed in {TABLE} but there is no such file ({len(missing)} of "
            f"{len(recordings)} missing); unpack {root.name} again or set rate to the other one."
        )
