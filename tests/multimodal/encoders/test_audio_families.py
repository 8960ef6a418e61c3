"""Audio checkpoints against transformers' own forward, on tiny random models saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from multimodal.batch import Batch
from multimodal.encoders import ENCODERS
from multimodal.encoders.families import family_of
from multimodal.encoders.families.audio import _masked_norm
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.speech import SpeechConfig
from tests.multimodal.encoders.audio_checkpoints import (
    SAVERS,
    ast,
    batch_of,
    clap,
    clips_of,
    waveform,
    whisper,
)

# torch, about WavLM's own call of it.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

CLOSE = {"rtol": 0, "atol": 1e-5}
SPEECH = SpeechConfig().build()
AUDIO = AudioConfig(sample_rate=8000, crop="start").build()


def adapter_of(name: str) -> Any:
    return AUDIO if name == "clap" else SPEECH


def opened(folder: Path, name: str) -> tuple[Any, Any, Any]:
    """The saved checkpoint's family, bare model and front end."""
    config = transformers.AutoConfig.from_pretrained(folder)
    family = family_of(config.model_type, str(folder))
    return family, family.load(folder, config), family.front_end(folder, config, adapter_of(name))


def embedded(folder: Path, name: str, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    family, model, front_end = opened(folder, name)
    with torch.no_grad():
        return family.forward(model, *front_end(batch))


def reference(model: Any, folder: Path, signal: np.ndarray) -> Any:
    """transformers' own extractor and forward on one recording."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    rate = extractor.sampling_rate
    made = extractor(signal, sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        return model(made[extractor.model_input_names[0]].float())


@pytest.mark.parametrize("name", [n for n in SAVERS if "-" in n])
def test_waveform_tokens_equal_transformers_on_each_recording_alone(
    name: str, tmp_path: Path
) -> None:
    original, clips = SAVERS[name](tmp_path), clips_of()
    tokens, mask = embedded(tmp_path, name, batch_of(clips, extra=777))
    for row, signal in enumerate(clips[:-1]):
        expected = reference(original, tmp_path, signal).last_hidden_state[0]
        assert mask[row].sum() == len(expected)
        torch.testing.assert_close(tokens[row][mask[row]], expected, **CLOSE)
    # Shorter than one frame of 40 samples: one token, where transformers' convolution fails.
    assert mask[-1].sum() == 1
    assert tokens[-1][mask[-1]].isfinite().all()


def test_waveform_checkpoints_may_lack_what_only_pre_training_uses(tmp_path: Path) -> None:
    original = waveform(tmp_path, mask_time_prob=0.0)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.mask_time_prob = 0.5
    config.save_pretrained(tmp_path)
    tokens, mask = embedded(tmp_path, "wav2vec2-group", batch_of(clips_of()[:1]))
    expected = reference(original, tmp_path, clips_of()[0]).last_hidden_state
    torch.testing.assert_close(tokens[mask], expected[0], **CLOSE)


def test_whisper_tokens_equal_transformers(tmp_path: Path) -> None:
    original, clips = whisper(tmp_path), clips_of()
    tokens, mask = embedded(tmp_path, "whisper", batch_of(clips, extra=777))
    for row, signal in enumerate(clips):
        expected = reference(original, tmp_path, signal).last_hidden_state[0]
        torch.testing.assert_close(tokens[row, :50], expected, **CLOSE)
    # A token is two frames of 160 samples; the first clip is longer than the window of 50 tokens:
    # see test_whisper_windows.py.
    assert mask.sum(1).tolist() == [-(-17000 // 320), -(-9000 // 320), -(-4321 // 320), 3, 1]


def test_cut_whisper_reads_each_recording_as_if_it_were_alone(tmp_path: Path) -> None:
    original, clips = whisper(tmp_path), clips_of()
    family, model, _ = opened(tmp_path, "whisper")
    assert family.cut is not None
    front_end = family.cut.front_end(tmp_path, model.config, SPEECH)
    with torch.no_grad():
        values, lengths = front_end(batch_of(clips[1:], extra=777))
        # 62 frames begin in the batch; the convolutions see two more.
        assert values.shape[2] == 62 + 2
        tokens, mask = family.cut.forward(model, values, lengths)
        together, _ = family.cut.forward(model, *front_end(batch_of(clips)))
        for row, signal in enumerate(clips[1:]):
            alone, all_real = family.cut.forward(model, *front_end(batch_of([signal])))
            count = -(-len(signal) // 320)
            assert all_real.sum() == mask[row].sum() == count
            torch.testing.assert_close(tokens[row, :count], alone[0, :count], **CLOSE)
            torch.testing.assert_close(together[row + 1, :count], alone[0, :count], **CLOSE)
    # A recording that fills the window is read as transformers reads it.
    expected = reference(original, tmp_path, clips[0]).last_hidden_state[0]
    torch.testing.assert_close(together[0, :50], expected, **CLOSE)


def test_ast_tokens_equal_transformers(tmp_path: Path) -> None:
    original, clips = ast(tmp_path), clips_of()
    tokens, mask = embedded(tmp_path, "ast", batch_of(clips, extra=777))
    for row, signal in enumerate(clips):
        filled = np.pad(signal, (0, max(0, 400 - len(signal))))
        expected = reference(original, tmp_path, filled)
        if row:
            torch.testing.assert_close(tokens[row, 0], expected.pooler_output[0], **CLOSE)
        torch.testing.assert_close(tokens[row, 1:37], expected.last_hidden_state[0, 2:], **CLOSE)
    # 3 rows of patches, 12 columns; a column begins every 5 frames; frames: 64, 54, 25, 2, 1, and
    # 40 more of the first clip, which is longer than a window: see test_sound_windows.py.
    assert mask.sum(1).tolist() == [1 + 3 * columns for columns in (12 + 8, 11, 5, 1, 1)]
    assert mask[2, :37].tolist() == [True] + 3 * ([True] * 5 + [False] * 7)


def test_clap_embeddings_equal_transformers(tmp_path: Path) -> None:
    original, clips = clap(tmp_path), clips_of()[1:]
    clips[0] = clips[0][:8000]  # longer ones: see test_sound_windows.py
    tokens, mask = embedded(tmp_path, "clap", batch_of(clips, extra=777))
    for row, signal in enumerate(clips):
        expected = reference(original, tmp_path, signal)
        torch.testing.assert_close(
            tokens[row][mask[row]].mean(0), expected.pooler_output[0], **CLOSE
        )
    assert mask.all()


@pytest.mark.parametrize("name", SAVERS)
def test_pooled_embeddings_do_not_depend_on_padding_or_batch(name: str, tmp_path: Path) -> None:
    SAVERS[name](tmp_path)
    config: Any = ENCODERS.parse({"name": "pretrained", "checkpoint": str(tmp_path)})
    front_end, encoder = config.front_end(adapter_of(name)), config.build(adapter_of(name))
    assert not encoder.model.training
    clips = clips_of()
    with torch.no_grad():
        together = encoder(*front_end(batch_of(clips))).pooled
        padded = encoder(*front_end(batch_of(clips, extra=3000))).pooled
        alone = torch.cat([encoder(*front_end(batch_of([c]))).pooled for c in clips])
    assert together.shape == (5, encoder.width)
    torch.testing.assert_close(padded, together, **CLOSE)
    torch.testing.assert_close(alone, together, **CLOSE)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", SAVERS)
def test_layers_run_in_order_then_the_tail_and_learn(name: str, tmp_path: Path) -> None:
    SAVERS[name](tmp_path)
    family, model, front_end = opened(tmp_path, name)
    layers, tail, seen = family.layers(model), family.tail(model), []
    for module in [*layers, *tail]:
        module.register_forward_hook(lambda module, *_: seen.append(module))
    tokens, mask = family.forward(model, *front_end(batch_of(clips_of()[1:3])))
    once = [*layers, *tail]
    windows = 2 if name == "clap" else 1  # one of the clips is longer than its window
    assert seen == once * windows
    tokens[mask].sin().sum().backward()
    gradients = [w.grad for w in layers[0].parameters() if w.grad is not None]
    assert gradients
    assert all(g.isfinite().all() and g.any() for g in gradients)
    assert len(layers) == (3 if name == "clap" else 2)
    assert len(tail) == (0 if name.endswith("-group") else 1)


def test_masked_norm_equals_group_norm_forward_and_backward() -> None:
    norm = nn.GroupNorm(6, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    hidden = torch.randn(2, 6, 30, requires_grad=True)
    weight = torch.randn(2, 6, 30)
    lengths = torch.tensor([30, 11])
    ours = [_masked_norm(norm, hidden, lengths)[row, :, :n] for row, n in enumerate([30, 11])]
    theirs = [norm(hidden[row : row + 1, :, :n])[0] for row, n in enumerate([30, 11])]
    gradients = []
    for result in (ours, theirs):
        value = sum((r * weight[0, :, : r.shape[1]]).sum() for r in result)
        assert isinstance(value, torch.Tensor)
        gradients.append(torch.autograd.grad(value, [hidden, norm.weight, norm.bias]))
    for mine, expected in zip([*ours, *gradients[0]], [*theirs, *gradients[1]], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def change(folder: Path, file: str, **changes: object) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda f: clap(f, fusion=True), "with fusion .* give a checkpoint without fusion"),
        (lambda f: clap(f, truncation="fusion"), "needs truncation='rand_trunc'"),
        (lambda f: clap(f, padding="mirror"), "padding=repeatpad, repeat, pad"),
        (lambda f: clap(f, feature_size=32), "makes 32 bands x 101 frames, .* reads 16 x 101"),
        (lambda f: clap(f, max_length_s=4), "makes 16 bands x 401 frames, .* reads 16 x 256"),
        (lambda f: whisper(f, chunk=2), "makes 80 bands x 200 frames, .* reads 80 x 100"),
        (
            lambda f: (ast(f), change(f, "config.json", max_length=70)),
            "64 frames, .* reads 24 x 70",
        ),
        (lambda f: (waveform(f), whisper_extractor(f)), "is of a WhisperFeatureExtractor, not of"),
        (lambda f: (ast(f), (f / "preprocessor_config.json").unlink()), "preprocessor_config.json"),
    ],
)
def test_front_ends_refuse(save: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    save(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    adapter = adapter_of(config.model_type)
    with pytest.raises(UserError, match=message) as error:
        family_of(config.model_type, "").front_end(tmp_path, config, adapter)
    assert str(tmp_path) in str(error.value)


def whisper_extractor(folder: Path) -> None:
    transformers.WhisperFeatureExtractor().save_pretrained(folder)


def test_another_sample_rate_names_the_setting_and_the_right_value(tmp_path: Path) -> None:
    whisper(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"modality.sample_rate=8000: .* wants 16000 Hz; set") as e:
        family_of("whisper", "").front_end(tmp_path, config, AUDIO)
    assert str(e.value).endswith("modality.sample_rate=16000.")


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda f: clap(f, fusion=True), "with fusion"),
        (lambda f: waveform(f, add_adapter=True), "add_adapter=true"),
        (lambda f: (whisper(f), change(f, "config.json", encoder_layers=3)), "lacks 15 parameters"),
    ],
)
def test_load_refuses(save: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    save(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        family_of(config.model_type, "").load(tmp_path, config)
