"""The setting ``augment`` of every modality, and what all augmentations have in common."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from multimodal.batch import Batch
from multimodal.modalities import MODALITIES

LENGTHS = torch.tensor([5, 8, 3, 8, 8, 1])
EVERYTHING: dict[str, dict[str, Any]] = {
    "audio": {"crop_seconds": 0.5, "gain_db": 6.0, "noise_db": 0.0},
    "speech": {"crop_seconds": 0.5, "gain_db": 6.0, "noise_db": 0.0},
    "ecg": {"crop_seconds": 0.5, "gain": 0.2, "noise_mv": 0.1, "lead_dropout": 0.3},
    "xray": {
        "flip": True,
        "rotate_degrees": 10.0,
        "scale": 0.1,
        "shift": 0.1,
        "contrast": 0.2,
        "brightness": 0.2,
    },
    "video": {"flip": True, "shift": 3, "contrast": 0.2, "brightness": 0.2},
}
EVERY = sorted(EVERYTHING)


def adapter_of(name: str, augment: dict[str, Any] | None, **settings: Any) -> Any:
    config = MODALITIES.parse({"name": name, "augment": augment, **settings})
    return config.build()  # pyright: ignore[reportAttributeAccessIssue]


def module_of(name: str, augment: dict[str, Any], **settings: Any) -> nn.Module:
    return adapter_of(name, augment, **settings).augment()


def batch_of(name: str, *, alike: bool = False) -> Batch:
    """Six recordings of the lengths ``LENGTHS`` (thousands of samples of sound); X-rays: whole."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        values = torch.rand(1 if alike else 6, *shape, generator=generator)
        return values.expand(6, *shape).contiguous()

    lengths = torch.full((6,), 8) if alike else LENGTHS
    shape = {"ecg": (12, 8 * 32), "xray": (1, 32, 32), "video": (8, 3, 32, 32)}
    inputs = random(*shape.get(name, (1, 8 * 4000)))
    if name == "video":
        inputs = (inputs * 256).to(torch.uint8)
        inputs *= (torch.arange(8) < lengths[:, None]).view(6, 8, 1, 1, 1)
    elif name == "xray":
        lengths = torch.ones(6, dtype=torch.int64)
    else:
        lengths = lengths * (inputs.shape[-1] // 8)
        inputs = (inputs - 0.5) * (torch.arange(inputs.shape[-1]) < lengths[:, None, None])
    return Batch(inputs, lengths, torch.arange(6) % 3, torch.arange(6), tuple("abcdef"))


@pytest.mark.parametrize("name", EVERY)
def test_the_same_recordings_in_the_canonical_form(name: str) -> None:
    before, given = batch_of(name), batch_of(name)
    torch.manual_seed(3)
    after = module_of(name, EVERYTHING[name])(given)
    for field in fields(Batch):
        old, new = getattr(before, field.name), getattr(given, field.name)
        assert torch.equal(old, new) if isinstance(old, Tensor) else old == new, field.name
    assert (after.labels is given.labels, after.indices is given.indices) == (True, True)
    assert after.texts == given.texts
    assert after.inputs.dtype == given.inputs.dtype
    assert after.inputs.shape[:-1] == given.inputs.shape[:-1]
    assert after.lengths.dtype == torch.int64
    assert not after.inputs.equal(given.inputs)
    if name != "ecg":
        low, high = {"audio": (-1, 1), "speech": (-1, 1), "xray": (0, 1)}.get(name, (0, 255))
        assert low <= after.inputs.min() <= after.inputs.max() <= high


@pytest.mark.parametrize("name", ["audio", "speech", "ecg", "video"])
def test_padding_stays_exactly_zero(name: str) -> None:
    given = batch_of(name)
    after = module_of(name, EVERYTHING[name])(given)
    axis = 1 if name == "video" else -1
    if name == "video":
        assert after.lengths.equal(LENGTHS)
    else:
        steps = after.inputs.shape[-1]
        assert steps == {"audio": 16_000, "speech": 8000, "ecg": 125}[name]
        assert after.lengths.tolist() == [min(n, steps) for n in given.lengths.tolist()]
    for inputs, length in zip(after.inputs, after.lengths.tolist(), strict=True):
        inputs = inputs.movedim(axis - 1 if axis > 0 else axis, 0)
        assert inputs[:length].any()
        assert not inputs[length:].any()


@pytest.mark.parametrize("name", EVERY)
def test_draws_follow_the_global_generator_and_differ_between_recordings(name: str) -> None:
    module, given = module_of(name, EVERYTHING[name]), batch_of(name, alike=True)
    torch.manual_seed(1)
    first, second = module(given).inputs, module(given).inputs
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert module(given).inputs.equal(first)
    assert module(given).inputs.equal(second)
    assert not first.equal(second)
    torch.set_rng_state(state)
    assert module(given).inputs.equal(first)
    pairs = [(i, j) for i in range(6) for j in range(i)]
    assert not any(first[i].equal(first[j]) for i, j in pairs)


@pytest.mark.parametrize("name", EVERY)
def test_front_ends_take_augmented_batches(name: str) -> None:
    adapter = adapter_of(name, EVERYTHING[name])
    values, lengths = adapter.front_end()(adapter.augment()(batch_of(name)))
    assert values.isfinite().all()
    assert lengths.min() > 0


@pytest.mark.parametrize("name", EVERY)
def test_off_by_default_and_no_part_of_the_signal(name: str) -> None:
    plain, augmented = adapter_of(name, None), adapter_of(name, EVERYTHING[name])
    assert plain.augment() is None
    assert plain.fingerprint == augmented.fingerprint
    config = augmented.config
    assert MODALITIES.parse(config.dump()) == config
    assert config.dump()["augment"] == EVERYTHING[name] | config.dump()["augment"]
    assert not list(augmented.augment().parameters())


@pytest.mark.parametrize("name", EVERY)
def test_each_option_alone_changes_something(name: str) -> None:
    given = batch_of(name)
    for option, value in EVERYTHING[name].items():
        torch.manual_seed(0)
        assert not module_of(name, {option: value})(given).inputs.equal(given.inputs), option


@pytest.mark.parametrize("name", EVERY)
def test_settings_without_effect_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"nothing is on: set one of .*, or remove augment"):
        adapter_of(name, {})
    amounts = set(EVERYTHING[name]) - {"crop_seconds", "noise_db"}  # 0 dB is a lot of noise
    zeros = {k: type(EVERYTHING[name][k])(0) for k in amounts}
    with pytest.raises(ValidationError, match="nothing is on"):
        adapter_of(name, zeros)


@pytest.mark.parametrize(
    ("name", "augment"),
    [
        ("audio", {"gain_db": -1.0}),
        ("audio", {"gain_db": 41.0}),
        ("audio", {"crop_seconds": 0.0}),
        ("speech", {"crop_seconds": float("inf")}),
        ("speech", {"noise_db": -21.0}),
        ("speech", {"noise_db": float("nan")}),
        ("speech", {"shift": 0.1}),
        ("ecg", {"gain": 1.0}),
        ("ecg", {"noise_mv": 11.0}),
        ("ecg", {"lead_dropout": 1.0}),
        ("ecg", {"crop_seconds": -1.0}),
        ("ecg", {"flip": True}),
        ("xray", {"rotate_degrees": 181.0}),
        ("xray", {"scale": 1.0}),
        ("xray", {"shift": 1.0}),
        ("xray", {"contrast": 1.0}),
        ("xray", {"brightness": -0.1}),
        ("xray", {"flip": 1}),
        ("video", {"shift": -1}),
        ("video", {"shift": 0.5}),
        ("video", {"contrast": 1.0}),
        ("video", {"brightness": 1.0}),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, augment: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        adapter_of(name, augment)
    assert [e["loc"][:2] for e in caught.value.errors()] == [("augment", *augment)]


@pytest.mark.parametrize(
    ("name", "setting"), [("audio", "seconds"), ("speech", "max_seconds"), ("ecg", "seconds")]
)
def test_a_crop_longer_than_all_recordings_is_refused(name: str, setting: str) -> None:
    words = rf"augment\.crop_seconds=2\.0 crops nothing .* {setting}=2\.0: use a shorter crop"
    with pytest.raises(ValidationError, match=words):
        adapter_of(name, {"crop_seconds": 2.0}, **{setting: 2.0})
    assert adapter_of(name, {"crop_seconds": 1.5}, **{setting: 2.0}).augment() is not None


def test_a_shift_out_of_the_frame_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"augment\.shift=32 .* size=32 .* use less"):
        adapter_of("video", {"shift": 32}, size=32)
    assert adapter_of("video", {"shift": 31}, size=32).augment() is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", EVERY)
def test_on_a_gpu_the_draws_come_from_its_generator(name: str) -> None:
    module, given = module_of(name, EVERYTHING[name]), batch_of(name).to("cuda")
    torch.manual_seed(1)
    on_cpu = torch.get_rng_state()
    after = module(given)
    assert after.inputs.is_cuda
    assert torch.get_rng_state().equal(on_cpu)
    torch.manual_seed(1)
    assert module(given).inputs.equal(after.inputs)
