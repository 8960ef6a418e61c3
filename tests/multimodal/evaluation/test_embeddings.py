"""Embeddings are checked, widened and scaled; what is wrong is named at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multimodal.errors import UserError
from multimodal.evaluation.embeddings import (
    check_width,
    class_ids,
    finite_rows,
    unit_rows,
    unit_texts,
)
from tests.multimodal.evaluation.towers import hashed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_have_length_one_in_float64(dtype: torch.dtype) -> None:
    rows = unit_rows(torch.randn(5, 3).to(dtype))
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_numpy_and_torch_are_alike_and_stay_as_they_were() -> None:
    array = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    array.setflags(write=False)  # as a memory-mapped cache is
    before = array.copy()
    tensor = torch.tensor(array, requires_grad=True)
    assert torch.equal(unit_rows(array), unit_rows(tensor))
    assert not unit_rows(tensor).requires_grad
    assert np.array_equal(array, before)


def test_a_row_of_zeros_stays_zero() -> None:
    assert unit_rows(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 0], [0.6, 0.8]]


def test_all_recordings_with_nan_are_named_at_once() -> None:
    rows = torch.zeros(8, 2)
    rows[1, 0], rows[6, 1] = float("nan"), float("inf")
    names = [f"clip-{i}.wav" for i in range(8)]
    with pytest.raises(UserError, match=r"2 of 8 recording .*'clip-1\.wav', 'clip-6\.wav';"):
        unit_rows(rows, names)
    with pytest.raises(UserError, match="row 1, row 6;"):
        finite_rows(rows)
    with pytest.raises(UserError, match=r"7 of 7 .* row 4, \.\.\.;"):
        finite_rows(np.full((7, 1), np.nan))


def test_texts_with_nan_are_named() -> None:
    def broken(texts):
        return torch.where(torch.tensor([[t == "rain"] for t in texts]), torch.nan, 1.0)

    with pytest.raises(UserError, match="1 of 2 text embeddings"):
        unit_texts(["dog", "rain"], broken)


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 0), (2, 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expected \(N, D\)"):
        unit_rows(np.zeros(shape))


def test_numbers_and_widths_must_fit() -> None:
    with pytest.raises(UserError, match="2 embeddings of recordings but 1 names"):
        unit_rows(np.ones((2, 2)), ["a"])
    with pytest.raises(UserError, match="have 3 embedding dimensions and texts 2"):
        check_width(torch.ones(1, 3), torch.ones(1, 2))
    with pytest.raises(ValueError, match="gave 1 embeddings of 2 texts"):
        unit_texts(["a", "b"], lambda texts: hashed(texts[:1]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "expected 3 class ids"),
        ([0.0, 1.0, 1.0], "type float64"),
        ([0, 1, 2], "label 2 is outside the 2 classes"),
        ([0, -1, 1], "label -1 is outside"),
    ],
)
def test_bad_labels_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_ids(labels, 3, 2)
