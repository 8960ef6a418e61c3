"""Cases as a table: labels of what is there, unknown where nothing there could tell."""

from __future__ import annotations

import numpy as np

from multimodal.datasets.case_table import as_table, case_targets, of_modalities
from multimodal.datasets.pairing import Cases
from multimodal.recordings import Manifest, Recording


def manifest(modality: str, names: tuple[str, ...], labels: list[tuple[int, ...]]) -> Manifest:
    rows = tuple(
        Recording(f"{i}", own, "train", group=f"p{i}", make=lambda: np.zeros((1, 8, 8)))
        for i, own in enumerate(labels)
    )
    return Manifest(modality, modality, names, rows, "1", synthetic=True)


def cases() -> Cases:
    images = manifest("xray", ("effusion", "pacemaker"), [(0,), (), (0, 1)])
    hearts = manifest("ecg", ("pacemaker", "block"), [(0,), (1,), ()])
    rows = {"xray": np.array([0, 1, -1, 2]), "ecg": np.array([0, -1, 1, 2])}
    return Cases(
        {"xray": images, "ecg": hearts},
        rows,
        ("one", "", "three", "four"),
        ("a", "b", "c", "d"),
        ("train", "train", "test", "test"),
        name="both",
        rule="by hand",
    )


def test_labels_are_of_what_is_there() -> None:
    names = ("effusion", "pacemaker", "block")
    nan = np.nan
    expected = [[1, 1, 0], [0, 0, nan], [nan, 0, 1], [1, 1, 0]]
    np.testing.assert_array_equal(case_targets(cases(), names), expected)
    table = as_table(cases())
    assert table.class_names == names
    np.testing.assert_array_equal(table.targets, expected)
    assert [r.text for r in table] == ["one", "", "three", "four"]
    assert list(table.groups) == ["a", "b", "c", "d"]
    assert table.modality == "xray+ecg"
    assert not table.has_files
    assert cases().content_hash in table.version


def test_a_modality_can_be_left_out() -> None:
    images = of_modalities(cases(), ("xray",))
    assert images.modalities == ("xray",)
    assert images.groups == ("a", "b", "d")
    assert images.rows["xray"].tolist() == [0, 1, 2]
