"""Scenes of two recordings of a batch against slow ones, in every modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal.batch import Batch
from multimodal.composition.pairs import BY_MODALITY, PEAK, Pairs
from multimodal.composition.xray import SEPARATOR
from multimodal.datasets import DATASETS
from multimodal.modalities import MODALITIES
from multimodal.signals import SignalCache

PAIRS = Pairs(torch.tensor([0, 2, 1]), torch.tensor([1, 0, 2]), torch.tensor([False, True, False]))


def batch(shape: tuple[int, ...], lengths: list[int], *, scale: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = scale * torch.randn(3, *shape, generator=generator)
    sizes = torch.tensor(lengths)
    if lengths != [1, 1, 1]:
        inputs = inputs * (torch.arange(shape[-1]) < sizes[:, None, None])
    return Batch(inputs, sizes, torch.tensor([0, 1, 2]), torch.arange(3))


def test_sounds_are_placed_at_equal_power() -> None:
    given = batch((1, 50), [50, 20, 33], scale=3.0)
    values, lengths = BY_MODALITY["audio"].compose(given, PAIRS)
    assert lengths.tolist() == [70, 50, 53]
    for row, (a, b, together) in enumerate(zip(*(p.tolist() for p in PAIRS), strict=True)):
        one, two = (given.inputs[i, 0, : given.lengths[i]].double().numpy() for i in (a, b))
        one, two = one / np.sqrt((one**2).mean()), two / np.sqrt((two**2).mean())
        whole = np.zeros(int(lengths[row]))
        starts = ((len(whole) - len(one)) // 2, (len(whole) - len(two)) // 2)
        first, second = starts if together else (0, len(one))
        whole[first : first + len(one)] += one
        whole[second : second + len(two)] += two
        whole *= PEAK / np.abs(whole).max()
        np.testing.assert_allclose(values[row, 0, : len(whole)], whole, atol=1e-6)
        assert not values[row, 0, len(whole) :].any()


def test_rhythms_keep_their_leads_relations_and_have_no_step() -> None:
    given = batch((12, 400), [400, 300, 350], scale=0.05)
    inputs = given.inputs + torch.randn(3, 12, 1)  # offsets of leads
    inputs = inputs * (torch.arange(400) < given.lengths[:, None, None])
    inputs[:, 1] = inputs[:, 0] + inputs[:, 2]  # II = I + III
    given = Batch(inputs, given.lengths, given.labels, given.indices)
    values, lengths = BY_MODALITY["ecg"].compose(given, PAIRS)
    assert lengths.tolist() == [700, 750, 650]
    torch.testing.assert_close(values[:, 1], values[:, 0] + values[:, 2], atol=1e-5, rtol=0)
    for row, (a, b, _) in enumerate(zip(*(p.tolist() for p in PAIRS), strict=True)):
        join = int(given.lengths[a])
        torch.testing.assert_close(values[row, :, :join], inputs[a, :, :join])
        torch.testing.assert_close(values[row, :, join], values[row, :, join - 1])
        tail = int(given.lengths[b]) - 20
        torch.testing.assert_close(
            values[row, :, join + 20 : join + 20 + tail], inputs[b, :, 20 : 20 + tail]
        )


def test_films_follow_each_other_or_share_the_screen() -> None:
    inputs = torch.zeros(3, 4, 3, 8, 8, dtype=torch.uint8)
    inputs += torch.tensor([50, 100, 200], dtype=torch.uint8)[:, None, None, None, None]
    given = Batch(inputs, torch.full((3,), 4), torch.arange(3), torch.arange(3))
    values, lengths = BY_MODALITY["video"].compose(given, PAIRS)
    assert (values.shape, values.dtype, lengths.tolist()) == (inputs.shape, torch.uint8, [4, 4, 4])
    assert values[0].amax((1, 2, 3)).tolist() == [50, 50, 100, 100]
    left, right = values[1, ..., :4], values[1, ..., 4:]
    assert (left.amax(), right.amax()) == (200, 50)
    assert not values[1, :, :, 0].any()  # above what keeps its aspect


def test_pictures_lie_side_by_side() -> None:
    inputs = torch.tensor([0.2, 0.6, 0.9])[:, None, None, None].expand(3, 1, 56, 56).contiguous()
    given = Batch(inputs, torch.ones(3, dtype=torch.int64), torch.arange(3), torch.arange(3))
    values, _ = BY_MODALITY["xray"].compose(given, PAIRS)
    assert values.shape == inputs.shape
    edge = round(SEPARATOR * 56) // 2
    assert (values[:, 0, :, 28 - edge : 28 + edge] == 0.5).all()
    middle = values[0, 0, 28]
    assert middle[10] == pytest.approx(0.2)
    assert middle[45] == pytest.approx(0.6)


@pytest.mark.parametrize("modality", ["audio", "ecg", "xray", "video"])
def test_front_ends_hear_and_see_both_events(modality: str) -> None:
    """Real recordings, whose lengths are what loaders give: no event lies in what is masked."""
    manifest = DATASETS.parse({"name": f"synthetic_{modality}"}).build(Path())  # pyright: ignore
    adapter = MODALITIES.parse({"name": modality}).build()  # pyright: ignore
    labels = manifest.labels
    rows = [0, int(np.flatnonzero(labels != labels[0])[0])]
    given = SignalCache(manifest, adapter, progress=False).gather(rows)
    turned = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([False]))
    values, lengths = BY_MODALITY[modality].compose(given, turned)
    scene = adapter.front_end()(Batch(values, lengths, given.labels[:1], given.indices[:1]))
    for row in (0, 1):
        inputs = given.inputs.clone()
        inputs[row] = given.inputs[row].flip(-1)
        changed, _ = BY_MODALITY[modality].compose(replace(given, inputs=inputs), turned)
        other = adapter.front_end()(replace(given, inputs=changed, lengths=lengths))
        assert (other.values != scene.values).any(), f"event {row} is masked"


@pytest.mark.parametrize("modality", BY_MODALITY)
@pytest.mark.parametrize("together", [False, True])
def test_captions_differ_where_scenes_do(modality: str, together: bool) -> None:
    composer = BY_MODALITY[modality]
    if together and not composer.overlays:
        return
    told = composer.told("a dog", "rain", together=together)
    turned = composer.told("rain", "a dog", together=together)
    assert told.main not in told.negatives
    assert not set(told.positives) & set(told.negatives)
    assert (turned.main in told.negatives) == (not together)
    assert (turned.main in told.positives) == together
    assert {"a dog", "rain"} <= set(told.positives)


@pytest.mark.parametrize("modality", ["video", "xray"])
def test_an_odd_width_stays(modality: str) -> None:
    shape = (4, 3, 9, 9) if modality == "video" else (1, 9, 9)
    values, _ = BY_MODALITY[modality].compose(batch(shape, [1, 1, 1]), PAIRS)
    assert values.shape == (3, *shape)
