from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.composition.draw import draw
from multimodal.composition.expressions import Slot, parse
from multimodal.composition.letterbox import letterboxed
from multimodal.composition.scenes import Scenes
from multimodal.composition.twins import twins
from multimodal.composition.video import (
    Films,
    VideoComposerConfig,
    Videos,
    render,
    screen,
    videos,
)
from multimodal.datasets.shape_actions import ShapeActionsConfig
from multimodal.errors import UserError
from multimodal.modalities.video import VideoConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.multimodal.composition.controls import assert_captions_true, check, turned_pair
from tests.multimodal.composition.pools import pool_of

RATE, SIZE = 8, 16
NAMES = ("jump", "run", "swim", "wave", "clap")
PHRASES = {name: f"a person who {name}s" for name in NAMES}
CONFIG = VideoComposerConfig()
FADING = VideoComposerConfig(fade=0.25)


def cache(frames: int = 8, count: int = 15, size: int = SIZE) -> SignalCache:
    def make(seed: int) -> np.ndarray:
        shape = (frames, 3, size, size)
        return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)

    recordings = tuple(
        Recording(
            uid=f"{i:02d}",
            labels=(i % len(NAMES),),
            split="train",
            make=lambda i=i: make(i),
        )
        for i in range(count)
    )
    adapter = VideoConfig(frames=frames, size=size, sampling="dense", fps=float(RATE)).build()
    return SignalCache(Manifest("toy", "video", NAMES, recordings, "1"), adapter, progress=False)


@pytest.fixture(scope="module")
def found() -> Videos:
    return videos(cache(), range(15), RATE, CONFIG, phrases=PHRASES)


def oracle(scenes: Scenes, row: int, clips: Films) -> np.ndarray:
    """Of hard cuts: frame by frame, what plays then in each column of the screen."""
    out = np.zeros((int(scenes.totals[row]), 3, SIZE, SIZE))
    tree = parse(scenes.expressions[scenes.expression[row]])
    columns = {str(part): (left, right) for part, left, right in screen(tree, 0, SIZE)}
    for slot, snippet in enumerate(scenes.snippets[row].tolist()):
        if snippet < 0:
            continue
        left, right = columns["ABCD"[slot]]
        first, length = int(clips.offsets[snippet]), int(scenes.lengths[row, slot])
        top = (SIZE - (right - left)) // 2
        for frame in range(int(scenes.onsets[row, slot]), int(scenes.offsets[row, slot])):
            shown = clips.values[first + (frame - int(scenes.onsets[row, slot])) % length]
            small = torch.nn.functional.interpolate(
                shown[None].float(), (right - left,) * 2, mode="bilinear", antialias=True
            )
            out[frame, :, top : top + right - left, left:right] = small[0].numpy()
    return out


def test_frames_are_the_oracles(found: Videos) -> None:
    scenes = draw(found.pool, CONFIG, 40, 0)
    assert (scenes.loops > 1).any()
    rendered = render(scenes, range(40), found.clips)
    assert rendered.values.shape == (40, scenes.totals.max(), 3, SIZE, SIZE)
    assert rendered.values.dtype == torch.uint8
    assert rendered.lengths.tolist() == scenes.totals.tolist()
    for row, length in enumerate(scenes.totals.tolist()):
        values = rendered.values[row].numpy()
        right = oracle(scenes, row, found.clips)
        np.testing.assert_allclose(values[:length], right, atol=1)
        assert ((values[:length] == 0) == (right == 0)).all()
        assert not values[length:].any()


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("A+B", {"A": (0, 12), "B": (0, 12)}),
        ("A*B", {"A": (0, 6), "B": (6, 12)}),
        ("(A+B)*C", {"A": (0, 6), "B": (0, 6), "C": (6, 12)}),
        ("A*B*C", {"A": (0, 4), "B": (4, 8), "C": (8, 12)}),
        ("A*(B+C*D)", {"A": (0, 6), "B": (6, 12), "C": (6, 9), "D": (9, 12)}),
    ],
)
def test_the_screen_is_split_from_the_left(
    expression: str, columns: dict[str, tuple[int, int]]
) -> None:
    parts = screen(parse(expression), 0, 12)
    assert {str(t): (a, b) for t, a, b in parts if isinstance(t, Slot)} == columns


@settings(max_examples=30)
@given(*[st.integers(1, 24)] * 4)
def test_letterboxes_keep_the_aspect_and_the_whole_picture(
    h: int, w: int, hh: int, ww: int
) -> None:
    boxed = letterboxed(torch.full((1, 1, h, w), 1.0), hh, ww)[0, 0].numpy()
    rows, columns = (np.flatnonzero(boxed.any(axis=axis)) for axis in (1, 0))
    assert boxed.shape == (hh, ww)
    assert (boxed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > 0.999).all()
    scale = min(hh / h, ww / w)
    assert len(rows) == pytest.approx(h * scale, abs=1)
    assert len(columns) == pytest.approx(w * scale, abs=1)
    assert len(rows) == hh or len(columns) == ww
    for found, side in ((rows, hh), (columns, ww)):
        assert abs(found[0] - (side - 1 - found[-1])) <= 1  # in the middle
    same = torch.arange(h * w).view(1, 1, h, w)
    assert (letterboxed(same, h, w) == same).all()


def test_a_cross_fade_goes_from_one_clip_to_the_next() -> None:
    """Of frames of one grey each, with 2 frames on either side of the cut."""
    pool = pool_of(40, seconds=(2.5, 4.0), rate=RATE)
    greys = np.random.default_rng(0).integers(0, 256, pool.lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(pool.lengths)])
    clips = Films(
        torch.from_numpy(greys.astype(np.uint8))[:, None, None, None].repeat(1, 3, 4, 4), offsets
    )
    scenes, others = turned_pair(pool, FADING, 20)
    assert set(scenes.fade.tolist()) == {2}
    for mine in (scenes, others):
        values = render(mine, range(20), clips).values
        assert (values == values[:, :, :1, :1, :1]).all()
        for row in range(20):
            order = np.argsort(mine.onsets[row])
            a, b = (greys[offsets[s] : offsets[s + 1]] for s in mine.snippets[row, order])
            expected = np.concatenate([a, b]).astype(float)
            cut = len(a)
            for i, share in enumerate((0.125, 0.375, 0.625, 0.875)):
                one, other = (a[cut - 2 + i], b[0]) if i < 2 else (a[-1], b[i - 2])
                expected[cut - 2 + i] = (1 - share) * one + share * other
            np.testing.assert_allclose(values[row, : len(expected), 0, 0, 0], expected, atol=0.5)


def test_a_cross_fade_stays_in_its_part_of_the_screen() -> None:
    pool = pool_of(40, seconds=(2.5, 4.0), rate=RATE)
    offsets = np.concatenate([[0], np.cumsum(pool.lengths)])
    values = np.random.default_rng(0).integers(1, 256, (offsets[-1], 3, 8, 8), dtype=np.uint8)
    clips = Films(torch.from_numpy(values), offsets)
    config = FADING.model_copy(update={"expressions": {"A*(B+C)": 1.0}})
    scenes = draw(pool, config, 10, 0)
    hard = draw(pool, config.model_copy(update={"fade": 0.0}), 10, 0)
    one, other = (render(s, range(10), clips).values for s in (scenes, hard))
    changed = (one != other).numpy()
    assert not changed[..., :4].any()
    for row in range(10):
        cut = int(scenes.onsets[row, 2])
        where = np.flatnonzero(changed[row].any(axis=(1, 2, 3)))
        assert where.tolist() == [cut - 2, cut - 1, cut, cut + 1]


def test_twins_have_the_same_frames_in_another_order(found: Videos) -> None:
    scenes, others = turned_pair(found.pool, CONFIG, 15)
    one, other = (render(s, range(15), found.clips) for s in (scenes, others))
    assert one.lengths.tolist() == other.lengths.tolist()
    for mine, twin in zip(one.values, other.values, strict=True):
        frames, turned = (sorted(f.numpy().tobytes() for f in v) for v in (mine, twin))
        assert frames == turned
        assert (mine != twin).any()
    overlaid = twins(scenes, found.pool, CONFIG, kind="overlaid")
    assert render(overlaid, range(15), found.clips).lengths.tolist() == one.lengths.tolist()


def test_as_many_frames_as_an_encoder_takes(found: Videos) -> None:
    scenes = draw(found.pool, CONFIG, 10, 0)
    every, eight = (render(scenes, range(10), found.clips, frames=f) for f in (None, 8))
    assert eight.values.shape == (10, 8, 3, SIZE, SIZE)
    assert eight.lengths.tolist() == [8] * 10
    for row, total in enumerate(scenes.totals.tolist()):
        chosen = [int((i + 0.5) * total / 8) for i in range(8)]
        assert (eight.values[row] == every.values[row][chosen]).all()


def test_pools() -> None:
    long = VideoComposerConfig(snippet_seconds=(0.5, 1.0))
    pool, clips = videos(cache(frames=14), range(4), RATE, long, phrases=PHRASES)
    assert pool.lengths.tolist() == [8] * 4
    assert pool.starts.tolist() == [3] * 4
    whole = cache(frames=14).gather([2]).inputs[0]
    assert (clips.values[16:24] == whole[3:11]).all()
    with pytest.raises(UserError, match="no clip of 'toy' lasts that long at 30 frames"):
        videos(cache(), [0], 30, CONFIG, phrases=PHRASES)
    with pytest.raises(UserError, match="phrases: none for swim, wave, clap"):
        videos(cache(), [0], RATE, CONFIG, phrases={"jump": "x", "run": "y"})
    with pytest.raises(ValidationError):
        VideoComposerConfig(level_db=3.0)
    scenes = draw(pool, long, 2, 0)
    with pytest.raises(AssertionError, match="other clips"):
        render(scenes, [0], Films(clips.values, clips.offsets // 2))


def test_recordings_of_several_labels_are_refused() -> None:
    both = Recording(
        uid="both", labels=(0, 1), split="train", make=lambda: np.ones((8, 3, 4, 4), "u1")
    )
    manifest = Manifest("toy", "video", NAMES, (both,), "1")
    adapter = VideoConfig(sampling="dense", fps=float(RATE)).build()
    signals = SignalCache(manifest, adapter, progress=False)
    with pytest.raises(UserError, match="both: 2 labels, 0 uncertain; scenes are composed of"):
        videos(signals, [0], RATE, CONFIG, phrases=lambda _: "x")


def test_controls(found: Videos) -> None:
    items = check(found.pool, CONFIG, triplets=0.3)
    assert {len(item) for item in items.items} == {2, 3}
    one, two = (render(items.scenes, range(9), found.clips).values for _ in range(2))
    assert one.numpy().tobytes() == two.numpy().tobytes()


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_captions_are_what_the_times_say(seed: int) -> None:
    pool = pool_of(60, seconds=(0.5, 3.0), rate=RATE, seed=seed)
    assert_captions_true(draw(pool, VideoComposerConfig(paired=seed % 2 == 0), 40, seed))


@pytest.mark.realdata
def test_real_clips(real_data: Path) -> None:
    manifest = ShapeActionsConfig().build(real_data / "shape_actions")
    adapter = VideoConfig(frames=8, size=SIZE, sampling="dense", fps=4.0).build()
    signals = SignalCache(manifest, adapter, progress=False)
    rows = np.arange(0, 135, 15)
    config = VideoComposerConfig(expressions={"A+B": 0.5, "A*B": 0.5})
    pool, clips = videos(signals, rows, 4, config, phrases=lambda r: r.text)
    assert pool.lengths.tolist() == [8] * 9
    scenes = draw(pool, config, 6, 0)
    assert render(scenes, range(6), clips).values.float().std() > 1
