"""The reader of MedMNIST, on tiny npz files of the official form."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multimodal.datasets import DATASETS
from multimodal.datasets import medmnist as module
from multimodal.datasets.medmnist import SUBSETS, MedmnistConfig
from multimodal.errors import UserError
from multimodal.modalities.xray import XrayConfig
from multimodal.recordings import Manifest

COUNTS = {"train": 12, "val": 4, "test": 6}


def arrays(subset: str, size: int = 28) -> dict[str, Any]:
    facts = SUBSETS[subset]
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for split, count in COUNTS.items():
        shape = (count, size, size, 3) if facts.colour else (count, size, size)
        found[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = (np.arange(count) % len(facts.names))[:, None]
        if subset == "chestmnist":
            labels = rng.integers(0, 2, (count, 14)) * (np.arange(count) > 0)[:, None]
        found[f"{split}_labels"] = labels.astype(np.uint8)
    return found


def write(root: Path, subset: str, size: int = 28, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {**arrays(subset, size), **changes}
    name = subset if size == 28 else f"{subset}_{size}"
    np.savez_compressed(root / f"{name}.npz", **found)
    return found


def build(root: Path, subset: str = "organamnist", **fields: object) -> Manifest:
    config = MedmnistConfig.parse({"subset": subset, "allow_altered": True, **fields})
    return config.build(root)


def test_facts_of_all_subsets() -> None:
    assert DATASETS.config("medmnist") is MedmnistConfig
    assert {name: len(facts.names) for name, facts in SUBSETS.items()} == {
        "pathmnist": 9,
        "chestmnist": 14,
        "dermamnist": 7,
        "octmnist": 4,
        "pneumoniamnist": 2,
        "retinamnist": 5,
        "breastmnist": 2,
        "bloodmnist": 8,
        "tissuemnist": 8,
        "organamnist": 11,
        "organcmnist": 11,
        "organsmnist": 11,
    }
    assert all(len(set(f.names)) == len(f.names) and len(f.md5) == 32 for f in SUBSETS.values())
    # Totals of the paper's table; the three organ sets lost 20, 77 and 10 images in version 3.
    totals = {name: sum(facts.counts) for name, facts in SUBSETS.items()}
    assert totals["chestmnist"] == 112_120
    assert totals["pathmnist"] == 107_180
    assert [totals[f"organ{x}mnist"] for x in "acs"] == [58_850 - 20, 23_660 - 77, 25_221 - 10]


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_subset(tmp_path: Path, subset: str) -> None:
    found = write(tmp_path, subset)
    manifest = build(tmp_path, subset)
    assert (manifest.modality, manifest.class_names) == ("xray", SUBSETS[subset].names)
    assert manifest.multi_label == (subset == "chestmnist")
    assert [len(manifest.indices(s)) for s in ("train", "validation", "test")] == [12, 4, 6]
    for r in manifest:
        split, number = r.uid.split("/")
        labels = found[f"{split}_labels"][int(number)]
        expected = np.flatnonzero(labels) if subset == "chestmnist" else labels
        assert (r.labels, r.group) == (tuple(expected.tolist()), "")
        assert r.make is not None
        pixels = Image.fromarray(found[f"{split}_images"][int(number)])
        made = r.make()
        assert (made.shape, made.dtype) == ((1, 28, 28), np.float32)
        # Pillow rounds its luminance down to whole levels.
        away = made[0] * 255 - np.asarray(pixels.convert("L"), np.float32)
        assert np.abs(away).max() < (1.01 if SUBSETS[subset].colour else 1e-4)
        loaded = XrayConfig(size=28).build().load(r).numpy()
        np.testing.assert_allclose(loaded, made, atol=1e-6)


def test_larger_images(tmp_path: Path) -> None:
    found = write(tmp_path, "bloodmnist", size=64)
    manifest = build(tmp_path, "bloodmnist", size=64)
    assert manifest.name == "medmnist-bloodmnist_64"
    made = manifest.recordings[0].make
    assert made is not None
    expected = found["test_images"][0] @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(made()[0], expected, atol=1e-6)


def test_white_stays_within_the_range(tmp_path: Path) -> None:
    write(tmp_path, "pathmnist", test_images=np.full((6, 28, 28, 3), 255, np.uint8))
    signal = XrayConfig(size=28).build().load(build(tmp_path, "pathmnist").recordings[0])
    assert (signal == 1).all()


def test_a_split_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "organamnist")
    manifest, asked = build(tmp_path), []
    load = np.load
    monkeypatch.setattr(module.np, "load", lambda *a, **k: asked.append(a) or load(*a, **k))
    for r in manifest:
        assert r.make is not None
        r.make()
    assert len(asked) == 3


def test_official_and_altered_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "organamnist")
    path = tmp_path / "organamnist.npz"
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"{path}: not the official .* 12, 4, 6 images, MD5 {md5}"):
        MedmnistConfig().build(tmp_path)
    assert build(tmp_path).version == f"ALTERED, MD5 {md5}"
    real = SUBSETS["organamnist"]
    monkeypatch.setitem(SUBSETS, "organamnist", real._replace(counts=(12, 4, 6)))
    with pytest.raises(UserError, match="set allow_altered=true"):
        MedmnistConfig().build(tmp_path)
    monkeypatch.setitem(SUBSETS, "organamnist", real._replace(counts=(12, 4, 6), md5=md5))
    manifest = MedmnistConfig().build(tmp_path)
    assert manifest.version == f"official, MD5 {md5}"
    write(tmp_path, "organamnist", size=64)  # no official MD5 of larger files is known
    assert MedmnistConfig(size=64).build(tmp_path).version.startswith("official")
    changed = arrays("organamnist")["test_images"] ^ 1
    write(tmp_path, "organamnist", test_images=changed)
    assert build(tmp_path).content_hash != manifest.content_hash


def test_expected_counts_and_licences(tmp_path: Path) -> None:
    counts = MedmnistConfig().expected_counts()
    assert counts == {"train": 34_561, "validation": 6_491, "test": 17_778}
    write(tmp_path, "dermamnist")
    assert build(tmp_path, "dermamnist").licence == "CC BY-NC 4.0"


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    labels = np.array([[0], [1]] * 6, dtype=object)
    write(tmp_path, "organamnist", train_labels=labels)
    with pytest.raises(UserError, match=r"organamnist\.npz: train_labels cannot be read \(Object"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train_images", np.zeros((12, 28, 28, 3), np.uint8), r"uint8 \(12, 28, 28, 3\); organa"),
        ("train_images", np.zeros((12, 28, 28)), r"train_images is float64"),
        ("val_images", np.zeros((3, 28, 28), np.uint8), r"has uint8 \(4, 28, 28\)"),
        ("val_labels", np.zeros((4, 14), np.uint8), r"val_labels is uint8 .*integers \(N, 1\)"),
        ("val_labels", np.zeros((4, 1)), r"val_labels is float64"),
        ("test_labels", np.full((6, 1), 11), r"from 11 to 11; expected 0 to 10"),
        ("test_labels", np.full((6, 1), -1), r"from -1 to -1; expected 0 to 10"),
    ],
)
def test_arrays_of_another_form(tmp_path: Path, key: str, value: Any, words: str) -> None:
    changes: dict[str, Any] = {key: value}
    write(tmp_path, "organamnist", **changes)
    with pytest.raises(UserError, match=words):
        build(tmp_path)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*organamnist\.npz"):
        build(tmp_path / "nowhere")
    write(tmp_path, "organamnist", size=64)
    with pytest.raises(UserError, match=r"expected organamnist\.npz; found organamnist_64\.npz"):
        build(tmp_path)
    path = tmp_path / "organamnist.npz"
    write(tmp_path, "organamnist")
    whole = path.read_bytes()
    for content in (b"", b"not an archive", whole[:-40], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{path}: train_images cannot be read"):
            build(tmp_path)
    found = arrays("organamnist")
    del found["test_images"]
    np.savez(path, **found)
    with pytest.raises(UserError, match=r"test_images cannot be read .*no item named"):
        build(tmp_path)
