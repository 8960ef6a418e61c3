"""The shipped multi-label configs on tiny copies of the official layouts, with real files."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb
from PIL import Image

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.config.settings import read_yaml
from multimodal.datasets.chexpert import LABELS
from multimodal.datasets.findings import COMPETITION
from multimodal.datasets.nih_cxr14 import FINDINGS
from multimodal.modalities.ecg import LEADS

CONFIGS = Path(__file__).parents[4] / "configs" / "bench"
SUPERCLASSES = {"CD": "1AVB", "HYP": "LVH", "MI": "IMI", "NORM": "NORM", "STTC": "NDT"}


def ptbxl(root: Path) -> None:
    """Every pair of superclasses once a fold, one record of each superclass alone."""
    root.mkdir()
    head = ",description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass"
    rows = [f"{code},words,1.0,,,{name},{code}" for name, code in SUPERCLASSES.items()]
    (root / "scp_statements.csv").write_text("\n".join([head, *rows]))
    codes = list(SUPERCLASSES.values())
    sets = [*itertools.combinations(codes, 2), *((code,) for code in codes)]
    with (root / "ptbxl_database.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(
            [
                "ecg_id",
                "patient_id",
                "report",
                "scp_codes",
                "strat_fold",
                "filename_lr",
                "filename_hr",
            ]
        )
        for number, (fold, own) in enumerate(itertools.product((1, 9, 10), sets), start=1):
            name = f"records100/00000/{number:05d}_lr"
            statements = str(dict.fromkeys(own, 100.0))
            out.writerow([number, f"{number}.0", "", statements, fold, name, "none"])
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            wfdb.wrsamp(
                f"{number:05d}_lr",
                fs=100,
                units=["mV"] * 12,
                sig_name=list(LEADS),
                d_signal=np.random.default_rng(number).integers(-900, 900, (200, 12)),
                fmt=["16"] * 12,
                adc_gain=[1000.0] * 12,
                baseline=[0] * 12,
                write_dir=str(root / name.rpartition("/")[0]),
            )


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 255, (40, 40), np.uint8)
    Image.fromarray(noise).save(path)


def nih_cxr14(root: Path) -> None:
    """One image of every finding alone, one of every two neighbours, two without, a side."""
    sets = [[f] for f in FINDINGS] + [list(p) for p in itertools.pairwise(FINDINGS)]
    sets += [["No Finding"]] * 2
    lines = ["a,b,c,d,e,f,g,h,i,j,k".replace("a,b", "Image Index,Finding Labels")]
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for patient, (side, own) in enumerate(itertools.product(lists, sets), start=1):
        name = f"{patient:08d}_000.png"
        lines.append(f"{name},{'|'.join(own)},0,{patient},58,M,PA,40,40,0.1,0.1")
        lists[side].append(name)
        picture(root / "images" / name, patient)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines))
    for name, names in lists.items():
        (root / name).write_text("\n".join(names))


def chexpert(root: Path) -> None:
    """Findings alone and in pairs; in training each is uncertain once."""
    root.mkdir()
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
    sets = [*itertools.combinations(COMPETITION, 2), *((f,) for f in COMPETITION)]
    for split in ("train", "valid"):
        with (root / f"{split}.csv").open("w", newline="") as file:
            out = csv.DictWriter(file, columns, restval="")
            out.writeheader()
            for number, own in enumerate(sets, start=1 if split == "train" else 500):
                path = f"{split}/patient{number:05d}/study1/view1_frontal.jpg"
                picture(root / path, number)
                values = dict.fromkeys(own, "1.0")
                if split == "train":
                    unsure = COMPETITION[number % 5]
                    values.setdefault(unsure, "-1.0")
                row = {"Path": f"CheXpert-v1.0-small/{path}", "Frontal/Lateral": "Frontal"}
                out.writerow({**row, "Sex": "Female", "Age": "68", **values})


@pytest.mark.parametrize("write", [ptbxl, nih_cxr14, chexpert])
def test_a_shipped_config_runs_on_its_layout(write: Callable[[Path], None], tmp_path: Path) -> None:
    name = write.__name__
    write(tmp_path / name)
    path = CONFIGS / f"{name}_multi_label.yaml"
    data = read_yaml(path)
    changes = {
        "learners": ["majority", "replay", "joint"],
        "seeds": [1],
        "training": {"epochs": 1},
        "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2, "patch": 16},
        "tracking": {"store": "none"},
        "data_root": str(tmp_path),
        "output_dir": str(tmp_path / "runs"),
    }
    if write is not ptbxl:
        changes["modality"] = {"name": "xray", "size": 32}
    grid = Cells(validate(RunConfig, {**data, **changes}, source=str(path)))
    experiences = data["scenario"]["num_experiences"]
    if write is chexpert:
        assert np.isnan(grid.manifest.targets).any()
    for number, cell in enumerate(grid.cells):
        metrics = grid.run_cell(number).metrics
        rows = metrics["auroc_matrix"]
        assert {len(row) for row in rows} == {experiences}
        assert metrics["num_scored_classes"] == grid.manifest.num_classes
        assert 0 <= metrics["macro_auroc"] <= 1
        assert 0 <= metrics["mean_average_precision"] <= 1
        if cell.learners[0].registered_name == "majority":
            assert metrics["macro_auroc"] == 0.5
