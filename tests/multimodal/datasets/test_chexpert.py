"""The reader of CheXpert, on tiny copies of the official layout."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pydantic import ValidationError

from multimodal.datasets import DATASETS
from multimodal.datasets.chexpert import LABELS, ChexpertConfig
from multimodal.datasets.findings import COMPETITION, MAPPED
from multimodal.errors import UserError
from multimodal.recordings import Manifest

COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
# (patient, shot, labels) of the training table.
ROWS = [
    (1, "frontal", {"Edema": "1.0", "Atelectasis": "-1.0", "Fracture": "1.0"}),
    (1, "lateral", {"Edema": "1.0"}),
    (2, "frontal", {"No Finding": "1.0"}),
    (3, "frontal", {"Cardiomegaly": "-1.0", "Edema": "0.0"}),
    (4, "frontal", {"Pleural Effusion": "1.0", "Cardiomegaly": "1.0"}),
]
TEST_ROWS = [(5, "frontal", {"Consolidation": "1.0"}), (5, "lateral", {})]


def write(root: Path, **tables: list[tuple[int, str, dict[str, str]]]) -> None:
    for split, rows in tables.items():
        with (root / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            for patient, shot, labels in rows:
                path = f"{split}/patient{patient:05d}/study1/view1_{shot}.jpg"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(path)
                fields = {"Path": f"CheXpert-v1.0-small/{path}", "Frontal/Lateral": shot.title()}
                writer.writerow({**fields, "Sex": "Female", "Age": "68", **labels})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "chexpert"
    root.mkdir()
    write(root, train=ROWS, valid=TEST_ROWS)
    return root


def positives(manifest: Manifest) -> dict[str, set[str]]:
    """patient/shot -> names of its classes."""
    return {
        f"{int(r.group.removeprefix('patient'))}/{r.uid.rsplit('_')[-1][:-4]}": {
            manifest.class_names[c] for c in r.labels
        }
        for r in manifest
    }


def test_rows(copy: Path) -> None:
    manifest = ChexpertConfig().build(copy)
    assert DATASETS.config("chexpert") is ChexpertConfig
    assert manifest.class_names == COMPETITION
    first = manifest.recordings[0]
    assert first.uid == "train/patient00001/study1/view1_frontal.jpg"
    assert (first.path, first.group, first.text) == (copy / first.uid, "patient00001", "")
    assert {r.group: r.split for r in manifest}["patient00005"] == "test"
    assert manifest.splits.tolist() == ["train"] * 4 + ["test"]
    assert manifest.version == "CheXpert-v1.0-small; u_zeros, blank = absent"


@pytest.mark.parametrize(
    ("policy", "atelectasis", "cardiomegaly"),
    [
        ("u_zeros", set(), set()),
        ("u_ones", {"Atelectasis"}, {"Cardiomegaly"}),
        ("u_map", {"Atelectasis"}, set()),
        ("u_multi", {"Atelectasis (uncertain)"}, {"Cardiomegaly (uncertain)"}),
    ],
)
def test_policies(copy: Path, policy: str, atelectasis: set, cardiomegaly: set) -> None:
    manifest = ChexpertConfig.parse({"uncertain": policy}).build(copy)
    assert positives(manifest) == {
        "1/frontal": {"Edema"} | atelectasis,
        "2/frontal": set(),
        "3/frontal": cardiomegaly,
        "4/frontal": {"Pleural Effusion", "Cardiomegaly"},
        "5/frontal": {"Consolidation"},
    }
    assert manifest.num_classes == (10 if policy == "u_multi" else 5)
    assert policy in manifest.version


def test_u_drop_leaves_uncertain_images_out(copy: Path) -> None:
    manifest = ChexpertConfig(uncertain="u_drop").build(copy)
    assert set(positives(manifest)) == {"2/frontal", "4/frontal", "5/frontal"}
    manifest = ChexpertConfig(uncertain="u_drop", classes=("Edema",)).build(copy)
    assert len(manifest) == 5


def test_u_ignore_keeps_uncertain_labels_as_unknown(copy: Path) -> None:
    manifest = ChexpertConfig(uncertain="u_ignore").build(copy)
    names = manifest.class_names
    assert {r.group: tuple(names[c] for c in r.unknown) for r in manifest if r.unknown} == {
        "patient00001": ("Atelectasis",),
        "patient00003": ("Cardiomegaly",),
    }
    first = manifest.targets[0].tolist()
    assert [str(first[names.index(n)]) for n in ("Atelectasis", "Edema")] == ["nan", "1.0"]
    single = ChexpertConfig(uncertain="u_ignore", single_label=True).build(copy)
    assert set(positives(single)) == {"5/frontal"}


def test_classes_and_views(copy: Path) -> None:
    found = positives(ChexpertConfig(classes="all", view="all").build(copy))
    assert found["1/frontal"] == {"Edema", "Fracture"}
    assert found["2/frontal"] == {"No Finding"}
    assert (found["1/lateral"], found["5/lateral"]) == ({"Edema"}, set())
    manifest = ChexpertConfig.parse({"classes": ["Fracture", "Edema"]}).build(copy)
    assert manifest.class_names == ("Fracture", "Edema")
    assert manifest.recordings[0].labels == (0, 1)
    assert set(positives(ChexpertConfig(view="lateral").build(copy))) == {"1/lateral", "5/lateral"}


def test_single_label(copy: Path) -> None:
    manifest = ChexpertConfig(single_label=True).build(copy)
    assert positives(manifest) == {"1/frontal": {"Edema"}, "5/frontal": {"Consolidation"}}


def test_columns_are_found_by_name(copy: Path) -> None:
    """Another order of the columns changes nothing."""
    before = positives(ChexpertConfig().build(copy))
    for name in ("train.csv", "valid.csv"):
        rows = list(csv.reader((copy / name).open(newline="")))
        with (copy / name).open("w", newline="") as file:
            csv.writer(file).writerows(row[::-1] for row in rows)
    assert positives(ChexpertConfig().build(copy)) == before


def test_validation_takes_whole_patients(copy: Path) -> None:
    write(
        copy, train=[(i, s, {"Edema": "1.0"}) for i in range(1, 21) for s in ("frontal", "lateral")]
    )
    write(copy, valid=[(50, "frontal", {})])
    chosen = []
    for seed in (0, 1):
        config = ChexpertConfig(view="all", validation_fraction=0.25, seed=seed)
        manifest = config.build(copy)
        assert [len(manifest.indices(s)) for s in ("train", "validation", "test")] == [30, 10, 1]
        chosen.append(set(manifest.groups[manifest.indices("validation")]))
        assert len(chosen[-1]) == 5
        assert "Medley's rule" in manifest.split_rule
    assert chosen[0] != chosen[1]


def test_release_folder_below_the_root(copy: Path) -> None:
    copy.rename(copy.parent / "CheXpert-v1.0-small")
    manifest = ChexpertConfig().build(copy.parent)
    assert len(manifest) == 5
    assert manifest.root == copy.parent / "CheXpert-v1.0-small"


def test_expected_counts() -> None:
    assert ChexpertConfig().expected_counts() == {"train": 191_027}
    assert ChexpertConfig(view="all").expected_counts() == {"train": 191_027 + 32_387}
    assert ChexpertConfig(single_label=True).expected_counts() is None
    assert set(MAPPED) <= set(LABELS)
    assert len(set(LABELS)) == 14


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": ["Edemma"]}, "'Edemma' is unknown; did you mean 'Edema'"),
        ({"classes": []}, "classes is empty"),
        ({"classes": "all", "uncertain": "u_map"}, "u_map' says nothing about No Finding, "),
    ],
)
def test_bad_settings(copy: Path, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ChexpertConfig.parse(settings).build(copy)


def test_unknown_policy() -> None:
    with pytest.raises(ValidationError, match="u_zeros"):
        ChexpertConfig.parse({"uncertain": "u_twos"})


def test_wrong_folders_and_tables(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*train\.csv"):
        ChexpertConfig().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"CheXpert-v1\.0-small.*; found chexpert/\."):
        ChexpertConfig().build(tmp_path)
    image = copy / "train/patient00002/study1/view1_frontal.jpg"
    image.unlink()
    with pytest.raises(UserError, match=rf"{image}: listed but .*\(1 missing in all\)"):
        ChexpertConfig().build(copy)
    assert len(ChexpertConfig(allow_missing=True).build(copy)) == 4
    table = copy / "train.csv"
    whole = table.read_text()
    table.write_text(whole.replace("Edema", "Oedema", 1))
    with pytest.raises(UserError, match=r"train\.csv: no column Edema; columns: Path"):
        ChexpertConfig().build(copy)
    table.write_text(whole.replace("-1.0", "maybe", 1))
    with pytest.raises(UserError, match=r"Atelectasis is 'maybe'; it must be 1\.0"):
        ChexpertConfig().build(copy)
    table.write_text(whole.replace("small/train/patient00001", "small/../patient00001", 1))
    with pytest.raises(UserError, match=r"line 2: Path .* is not of the form"):
        ChexpertConfig().build(copy)
    table.write_text(whole.splitlines()[0])
    with pytest.raises(UserError, match=r"train\.csv has no rows"):
        ChexpertConfig().build(copy)
