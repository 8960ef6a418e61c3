from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.composition.draw import draw
from multimodal.composition.plan import ComposerConfig
from multimodal.composition.scenes import Scenes
from multimodal.composition.twins import twins
from multimodal.composition.xray import Images, Panels, XrayComposerConfig, images, render
from multimodal.datasets.covid_xray import CovidXrayConfig
from multimodal.errors import UserError
from multimodal.modalities.xray import XrayConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.multimodal.composition.controls import assert_captions_true, check, turned_pair

NAMES = ("no finding", "cardiomegaly", "effusion", "nodule", "mass")
PHRASES = {name: f"an image that shows {name}" for name in NAMES}
CONFIG = XrayComposerConfig()
THREE = XrayComposerConfig(expressions={"A+B+C": 1.0})


def cache(size: int = 224, count: int = 15, shape: tuple[int, int] = (60, 60)) -> SignalCache:
    def make(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(0.2, 1.0, (1, *shape)).astype(np.float32)

    recordings = tuple(
        Recording(uid=f"{i:02d}", labels=(i % 5,), split="train", make=lambda i=i: make(i))
        for i in range(count)
    )
    adapter = XrayConfig(size=size).build()
    return SignalCache(Manifest("toy", "xray", NAMES, recordings, "1"), adapter, progress=False)


@pytest.fixture(scope="module")
def found() -> Images:
    return images(cache(), range(15), 224, CONFIG, phrases=PHRASES)


def test_two_images_of_224_pixels(found: Images) -> None:
    """108 + 8 + 108 pixels; each image is a square of 108 in the middle of its half."""
    scenes = draw(found.pool, CONFIG, 12, 0)
    whole = cache().gather(range(15)).inputs
    small = torch.nn.functional.interpolate(whole, (108, 108), mode="bilinear", antialias=True)
    rendered = render(scenes, range(12), found.clips)
    assert rendered.values.shape == (12, 1, 224, 224)
    assert rendered.lengths.tolist() == [1] * 12  # as SignalCache has it for images
    for row, picture in enumerate(rendered.values[:, 0]):
        left, right = scenes.snippets[row].tolist()  # A+B: A is on the left
        assert (picture[:, 108:116] == 0.5).all()
        assert not picture[:58, :108].any()
        assert not picture[166:, 116:].any()
        assert torch.equal(picture[58:166, :108], small[left, 0])
        assert torch.equal(picture[58:166, 116:], small[right, 0])


def oracle(scenes: Scenes, row: int, clips: Panels, size: int) -> np.ndarray:
    """Column by column: of an image, or between two of them, or left over."""
    out = np.zeros((size, size))
    for x in range(size):
        if x < scenes.totals[row]:
            out[:, x] = 0.5
        for slot, snippet in enumerate(scenes.snippets[row].tolist()):
            on, off = int(scenes.onsets[row, slot]), int(scenes.offsets[row, slot])
            if snippet >= 0 and on <= x < off:
                out[:, x] = clips.values[snippet, 0, :, x - on].numpy()
    return out


@pytest.mark.parametrize("size", [8, 31, 64])
@pytest.mark.parametrize("config", [CONFIG, THREE])
def test_pictures_are_the_oracles(size: int, config: XrayComposerConfig) -> None:
    pool, clips = images(cache(size), range(15), size, config, phrases=PHRASES)
    scenes = draw(pool, config, 6, 0)
    values = render(scenes, range(6), clips).values
    assert values.shape == (6, 1, size, size)
    for row in range(6):
        np.testing.assert_array_equal(values[row, 0].numpy(), oracle(scenes, row, clips, size))
    separator = round(8 / 224 * size)
    assert (np.diff(np.sort(scenes.onsets)) == pool.lengths[0] + separator).all()
    assert size - config.images < scenes.totals[0] <= size


def test_a_wide_image_keeps_its_aspect() -> None:
    signals = cache(64, shape=(30, 60))  # 64 x 32 in the canonical square
    pool, clips = images(signals, range(15), 64, CONFIG, phrases=PHRASES)
    picture = clips.values[0, 0].numpy()
    rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
    assert clips.values.shape == (15, 1, 64, 31)
    assert len(columns) == 31
    assert len(rows) == pytest.approx(31 / 2, abs=2)  # an edge falls between two rows
    assert pool.rate == 64


def test_twins_exchange_the_places_and_nothing_else(found: Images) -> None:
    scenes, others = turned_pair(found.pool, CONFIG, 20)
    one, other = (render(s, range(20), found.clips).values for s in (scenes, others))
    assert torch.equal(one[..., :108], other[..., 116:])
    assert torch.equal(one[..., 116:], other[..., :108])
    assert torch.equal(one[..., 108:116], other[..., 108:116])
    assert torch.equal(one.flatten(1).sort().values, other.flatten(1).sort().values)
    assert not torch.equal(one, other)


def test_captions_say_where_images_lie(found: Images) -> None:
    scenes = draw(found.pool, CONFIG, 60, 0)
    assert (scenes.onsets == [0, 116]).all()
    for row, text in enumerate(scenes.captions):
        left, right = (found.pool.phrases[i] for i in scenes.snippets[row])
        says_left = [f"{left} {word} {right}" for word in ("left of", "to the left of")]
        says_right = [f"{right} {word} {left}" for word in ("right of", "to the right of")]
        assert text in says_left + says_right
        assert len(scenes.positives[row]) == 4  # in other words, and either image alone
        wrong = [t.replace(left, "*").replace(right, left).replace("*", right) for t in [text]]
        assert scenes.negatives[row] == wrong
    assert CONFIG.notice == "For research, not for clinical use."


def test_refusals(found: Images) -> None:
    with pytest.raises(ValidationError, match="'A\\*B': two images do not lie in one place"):
        XrayComposerConfig(expressions={"A*B": 1.0})
    with pytest.raises(ValidationError, match=r"A\+B, A\+B\+C: give all the same number"):
        XrayComposerConfig(expressions={"A+B": 1.0, "A+B+C": 1.0})
    for setting in ({"level_db": 1.0}, {"fade": 0.05}):
        with pytest.raises(ValidationError):
            XrayComposerConfig.parse(setting)
    with pytest.raises(UserError, match="rate: 100; the images are 224 pixels wide"):
        images(cache(), [0], 100, CONFIG, phrases=PHRASES)
    wide = XrayComposerConfig(gap=(1.0, 1.0))
    with pytest.raises(UserError, match="gap: 1 of the width; 2 images have no room in 224"):
        images(cache(), [0], 224, wide, phrases=PHRASES)
    scenes = draw(found.pool, XrayComposerConfig(paired=True), 3, 0)
    with pytest.raises(UserError, match="no words for what is at the same time"):
        twins(scenes, found.pool, CONFIG, kind="overlaid")
    with pytest.raises(AssertionError, match="other clips"):
        render(scenes, [0], Panels(found.clips.values[..., 1:]))
    still = {"fade": 0.0, "level_db": 0.0, "snippet_seconds": (0.1, 1.0), "max_seconds": 1.0}
    for expression, more, what in (
        ("A*B", {}, "two images"),
        ("A+B", {"fade": 0.1}, "fade: not 0"),
        ("A+B", {"level_db": 3.0}, "gain_db: not 0"),
    ):
        config = ComposerConfig(expressions={expression: 1.0}, gap=(0.0, 0.0), **{**still, **more})
        with pytest.raises(UserError, match=what):
            render(draw(found.pool, config, 2, 0), [0, 1], found.clips)


@pytest.mark.parametrize("config", [CONFIG, THREE])
def test_controls(config: XrayComposerConfig) -> None:
    pool, clips = images(cache(32), range(15), 32, config, phrases=PHRASES)
    items = check(pool, config, triplets=0.3)
    assert {len(item) for item in items.items} == {2}
    one, two = (render(items.scenes, range(9), clips).values for _ in range(2))
    assert one.numpy().tobytes() == two.numpy().tobytes()


@settings(max_examples=10)
@given(st.integers(2, 4), st.integers(0, 10**6))
def test_captions_are_what_the_places_say(count: int, seed: int) -> None:
    expression = "+".join("ABCD"[:count])
    config = XrayComposerConfig(expressions={expression: 1.0}, gap=(0.0, 0.1), paired=True)
    pool = images(cache(32, 10), range(10), 32, config, phrases=PHRASES).pool
    scenes = draw(pool, config, 20, seed)
    assert_captions_true(scenes)
    assert_captions_true(twins(scenes, pool, config))


@pytest.mark.realdata
def test_real_images(real_data: Path) -> None:
    manifest = CovidXrayConfig(min_patients=2).build(real_data / "covid_xray")
    signals = SignalCache(manifest, XrayConfig(size=64).build(), progress=False)
    plain = [(name, name.replace(",", " with")) for name in manifest.class_names]
    words = {name: f"an image that shows {said}" for name, said in plain}
    pool, clips = images(signals, range(len(manifest))[::5], 64, CONFIG, phrases=words)
    scenes = draw(pool, CONFIG, 6, 0)
    values = render(scenes, range(6), clips).values
    assert values.min() >= 0
    assert values.max() <= 1
    assert (values[..., 31:33] == 0.5).all()
