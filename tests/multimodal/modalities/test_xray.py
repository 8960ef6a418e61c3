"""Decoding of grey images: values against NumPy, Pillow and closed forms; damage is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.xray import XrayConfig, clahe
from tests.multimodal.modalities.xray_files import (
    CONFIG,
    SIDE,
    grey,
    load,
    load_made,
    refused,
    save,
)


def test_registered_and_adapter_attributes() -> None:
    adapter = MODALITIES.parse({"name": "xray"}).build()  # pyright: ignore
    assert (adapter.length_axis, adapter.dtype) == (None, torch.float32)
    assert (adapter.channels, adapter.axes, adapter.config.size) == (1, 2, 64)
    assert adapter.describe("Pleural_Thickening")[0] == "pleural thickening"
    assert adapter.describe("AbdomenCT")[0] == "abdomen CT"
    assert all("COVID-19" in prompt for prompt in adapter.describe("COVID-19"))


def test_fingerprint_and_config() -> None:
    configs = [{}, {"size": 32}, {"clahe": True}, {"stretch": True}]
    assert len({XrayConfig.parse(c).build().fingerprint for c in configs}) == 4
    for bad in ({"size": 0}, {"size": 5000}, {"clahe": "yes"}, {"flip": True}):
        with pytest.raises(ValidationError, match=next(iter(bad))):
            XrayConfig.parse(bad)


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_lossless_8_bit_comes_back_exactly(tmp_path: Path, ending: str) -> None:
    path = save(grey(), tmp_path / f"a.{ending}")
    np.testing.assert_allclose(load(path), grey() / 255, atol=1e-7)


def test_16_bit_png_keeps_its_low_bits(tmp_path: Path) -> None:
    path = save(grey(top=65535), tmp_path / "a.png")
    np.testing.assert_allclose(load(path), grey(top=65535) / 65535, atol=1e-7)
    low = save(grey(top=3000), tmp_path / "b.png")
    stretched = load(low, XrayConfig(size=SIDE, stretch=True))
    pixels = grey(top=3000).astype(float)
    expected = (pixels - pixels.min()) / np.ptp(pixels)
    np.testing.assert_allclose(stretched, expected, atol=1e-6)


def test_jpeg_is_close(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (SIDE, 1))
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(load(tmp_path / "a.jpg") - ramp / 255).max() < 0.02


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_other_modes_of_a_grey_image_are_that_image(tmp_path: Path, mode: str) -> None:
    path = save(grey(), tmp_path / "a.png", mode)
    np.testing.assert_allclose(load(path), grey() / 255, atol=1e-6)


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    colour = np.stack([grey(seed=s) for s in range(3)], axis=-1)
    expected = colour @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(load(save(colour, tmp_path / "a.png")), expected, atol=1 / 255)
    palette = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2)).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette.save(tmp_path / "p.png")
    corners = load(tmp_path / "p.png", XrayConfig(size=8))[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, np.array([76.2, 149.7, 29.1, 9]) / 255, atol=1 / 255)


def test_nothing_is_flipped(tmp_path: Path) -> None:
    quarters = np.kron([[0, 80], [160, 240]], np.ones((40, 40))).astype(np.uint8)
    found = load(save(quarters, tmp_path / "a.png"))[[4, 4, -4, -4], [4, -4, 4, -4]]
    np.testing.assert_allclose(found, np.array([0, 80, 160, 240]) / 255, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), value=st.floats(0.125, 1))
def test_fit_keeps_the_aspect_and_pads_with_zeros(height: int, width: int, value: float) -> None:
    image = load_made(np.full((1, height, width), value))
    shape = np.array([height, width]) * SIDE / max(height, width)
    inner = np.maximum(1, np.round(shape)).astype(int)
    first = (SIDE - inner) // 2
    expected = np.zeros((SIDE, SIDE))
    expected[first[0] : first[0] + inner[0], first[1] : first[1] + inner[1]] = value
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_shrinking_averages_instead_of_aliasing() -> None:
    stripes = np.tile([0.0, 1.0], (1, 256, 128))
    inner = load_made(stripes)[2:-2, 2:-2]
    assert np.abs(inner - 0.5).max() < 0.02


def test_made_arrays(tmp_path: Path) -> None:
    array = grey()[None] / 255
    np.testing.assert_allclose(load_made(array), array[0], atol=1e-6)
    for wrong in (array[0], np.zeros((3, 8, 8)), np.zeros((1, 0, 8))):
        with pytest.raises(UserError, match=r"made: the made array has shape .*\(1, H, W\)"):
            load_made(wrong)
    for wrong in (array + 1, array - 1, array * np.nan):
        with pytest.raises(UserError, match=r"made: .* outside \[0, 1\]"):
            load_made(wrong)


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "gone.png")
    assert "no such file" in refused(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "empty file (0 bytes)" in refused(tmp_path / "empty.png")
    (tmp_path / "notes.png").write_text("not an image")
    assert "no image that can be read" in refused(tmp_path / "notes.png")
    (tmp_path / "p.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "Git LFS pointer" in refused(tmp_path / "p.png")
    Image.fromarray(grey()).save(tmp_path / "a.gif")
    assert "no image that can be read" in refused(tmp_path / "a.gif")


@pytest.mark.parametrize("kind", ["png", "jpg", "progressive.jpg", "bmp"])
def test_a_cut_file_is_refused_or_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    Image.fromarray(grey()).save(path, progressive=kind.startswith("progressive"))
    whole, content = load(path), path.read_bytes()
    for end in np.unique(np.linspace(1, len(content) - 1, 60).astype(int)):
        path.write_bytes(content[:end])
        if end > len(content) - 20:  # an end mark may be cut, pixels may not
            try:
                np.testing.assert_array_equal(load(path), whole)
            except UserError:
                continue
        else:
            refused(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "BMP"]))
def test_broken_bytes_give_an_image_or_a_user_error(
    data: st.DataObject, kind: str, tmp_path_factory
):
    buffer = io.BytesIO()
    Image.fromarray(grey()).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(4):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(content)
    try:
        image = load(path)
    except UserError:
        return
    assert np.isfinite(image).all()


def test_clahe_of_a_constant_image_has_a_closed_form() -> None:
    """64 pixels a tile: 1 stays in bin v (limit 1), 63 are spread over 256 bins."""
    value = 51 / 255
    expected = (52 * 63 / 256 + 1) / 64
    np.testing.assert_allclose(clahe(np.full((64, 64), value)), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), seed=st.integers(0, 9))
def test_clahe_equals_a_slow_oracle(height: int, width: int, seed: int) -> None:
    image = grey(height, width, seed=seed) / 255 * 0.5
    found = clahe(image)
    assert found.shape == image.shape
    tile = [-(-n // 8) for n in (height, width)]
    pad = [(0, 8 * t - n) for t, n in zip(tile, (height, width), strict=True)]
    levels = np.rint(np.pad(image, pad, mode="symmetric") * 255).astype(int)
    area = tile[0] * tile[1]
    limit = max(2 * area / 256, 1)

    def mapped(row: int, column: int, level: int) -> float:
        row, column = min(max(row, 0), 7), min(max(column, 0), 7)
        part = levels[row * tile[0] :, column * tile[1] :][: tile[0], : tile[1]]
        counts = [float((part == v).sum()) for v in range(256)]
        excess = sum(max(c - limit, 0) for c in counts) / 256
        return sum(min(c, limit) + excess for c in counts[: level + 1]) / area

    generator = np.random.default_rng(seed)
    for _ in range(4):
        y, x = int(generator.integers(height)), int(generator.integers(width))
        py, px = (y + 0.5) / tile[0] - 0.5, (x + 0.5) / tile[1] - 0.5
        r, c = int(np.floor(py)), int(np.floor(px))
        fy, fx = py - r, px - c
        level = int(levels[y, x])
        expected = (1 - fy) * ((1 - fx) * mapped(r, c, level) + fx * mapped(r, c + 1, level))
        expected += fy * ((1 - fx) * mapped(r + 1, c, level) + fx * mapped(r + 1, c + 1, level))
        assert found[y, x] == pytest.approx(min(expected, 1.0), abs=1e-5)


def test_clahe_raises_low_contrast(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.02, (128, 128)).clip(0, 1)
    config = XrayConfig(size=128, clahe=True)
    assert load_made(noise[None], config).std() > 1.5 * noise.std()


def test_front_end_is_a_fixed_normalisation() -> None:
    inputs = torch.rand(3, 1, 8, 8)
    ones = torch.ones(3, dtype=torch.int64)
    features = CONFIG.build().front_end()(Batch(inputs, ones, ones, ones))
    torch.testing.assert_close(features.values, inputs * 4 - 2)
    assert features.lengths.tolist() == [8, 8, 8]


@pytest.mark.realdata
@pytest.mark.parametrize("pattern", ["mednist/*/*.jpeg", "covid_xray/images/*.jpg"])
def test_real_images_load(real_data: Path, pattern: str) -> None:
    paths = sorted(real_data.glob(pattern))[::25]
    assert len(paths) > 10
    for path in paths:
        image = load(path)
        assert image.std() > 0.02
        with Image.open(path) as file:
            height = max(1, round(file.height * SIDE / max(file.size)))
        assert image.any(axis=1).sum() <= height
