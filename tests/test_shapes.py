from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from continual.herding import herding_order
from continual.rehearsal import ReservoirMemory
from multimodal.objectives.contrastive import multi_positive
from multimodal.objectives.tools.gather import scaled
from tests import shapes

A, IDS, ONE = torch.ones(4, 3), torch.arange(4), torch.tensor(1.0)


def test_shapes_of_objectives_are_checked() -> None:
    multi_positive(A, A, IDS, ONE)
    for scale in (torch.ones(2), torch.tensor(1)):
        with pytest.raises(TypeCheckError, match="scale"):
            multi_positive(A, A, IDS, scale)
    with pytest.raises(TypeCheckError, match="ids"):
        multi_positive(A, A, IDS[:3], ONE)
    with pytest.raises(TypeCheckError, match="columns"):
        scaled(A, A[:, :2], ONE)


@pytest.mark.parametrize("again", range(2))
def test_the_first_calls_of_every_test_are_checked(again: int) -> None:
    for _ in range(shapes.CALLS):
        with pytest.raises(TypeCheckError, match="columns"):
            scaled(A, A[:, :2], ONE)
    scaled(A, A[:, :2], ONE)  # loops are as fast as without checks


def test_shapes_of_continual_are_checked() -> None:
    assert len(herding_order(A, 2)) == 2
    with pytest.raises(TypeCheckError, match="features"):
        herding_order(A[None], 2)


def test_shapes_of_results_are_checked() -> None:
    memory = ReservoirMemory(2, seed=0)
    memory._indices = torch.zeros(2)
    with pytest.raises(TypeCheckError, match="return value"):
        _ = memory.indices
