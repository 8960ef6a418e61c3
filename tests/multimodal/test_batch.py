from __future__ import annotations

import pytest
import torch

from multimodal.batch import Batch


@pytest.fixture
def batch() -> Batch:
    return Batch(
        inputs=torch.arange(12.0).view(3, 1, 4),
        lengths=torch.tensor([4, 3, 2]),
        labels=torch.tensor([0, 1, 0]),
        indices=torch.tensor([7, 8, 9]),
        texts=("a", "b", "c"),
    )


def test_rows_then_join_gives_the_batch_back(batch: Batch) -> None:
    again = Batch.join(batch.rows(0, 1), batch.rows(1, 3))
    for name in ("inputs", "lengths", "labels", "indices"):
        assert torch.equal(getattr(again, name), getattr(batch, name))
    assert again.texts == batch.texts
    assert len(batch.rows(1, 3)) == 2


def test_a_split_batch_is_joined_without_a_copy(batch: Batch) -> None:
    from dataclasses import replace

    first, second = batch.split(1)
    assert second.indices.tolist() == [8, 9]
    assert second.texts == ("b", "c")
    assert Batch.join(first, second) is batch
    changed = replace(second, labels=second.labels + 5)
    assert Batch.join(first, changed).labels.tolist() == [0, 6, 5]
    assert Batch.join(second, first).indices.tolist() == [8, 9, 7]


def test_join_without_texts_on_one_side_has_none(batch: Batch) -> None:
    from dataclasses import replace

    assert Batch.join(batch, replace(batch, texts=None)).texts is None


def test_to_the_same_device_copies_nothing(batch: Batch) -> None:
    assert batch.to("cpu") is batch
    assert batch.to("meta").inputs.device.type == "meta"
