"""Speech and sound encoders: wav2vec 2.0, HuBERT and WavLM (Baevski et al. 2020; Hsu et al. 2021;
Chen et al. 2022), Whisper's encoder (Radford et al. 2022) and AST, the Audio Spectrogram
Transformer (Gong et al. 2021). All read modality speech or audio.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from multimodal.encoders.families import Family, load_model, register
from multimodal.encoders.families.audio_features import (
    KaldiFeatures,
    KaldiSpec,
    WaveformFeatures,
    WaveformSpec,
    WhisperFeatures,
    WhisperSpec,
    extractor_of,
    refuse_shape,
)
from multimodal.encoders.families.windows import in_windows, one_class_token
from multimodal.errors import UserError
from multimodal.modalities import Adapter

# wav2vec 2.0, HuBERT, WavLM


def _load_waveform(folder: Path, config: Any) -> nn.Module:
    import transformers

    classes = {
        "wav2vec2": transformers.Wav2Vec2Model,
        "hubert": transformers.HubertModel,
        "wavlm": transformers.WavLMModel,
    }
    if getattr(config, "add_adapter", False):
        raise UserError(
            f"{folder}: add_adapter=true, a decoder's shortening layers behind the encoder, is not "
            "supported; give the checkpoint that it was fine-tuned from."
        )
    return load_model(classes[config.model_type], folder, absent=("masked_spec_embed",))


def _front_waveform(folder: Path, config: Any, adapter: Adapter) -> nn.Module:
    made = extractor_of(folder, adapter, "Wav2Vec2FeatureExtractor")
    return WaveformFeatures(WaveformSpec(made.sampling_rate, made.do_normalize))


def _forward_waveform(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """What the model itself makes of each recording alone, in a batch of any padding.

    transformers' forward cannot do that: its first group norm (feat_extract_norm="group") takes
    the padding into every mean, and such checkpoints are run without a mask. Here the norm counts
    valid frames only and padded frames are masked. Recordings shorter than one frame (25 ms) are
    followed by silence; SpecAugment is left out of training.
    """
    features_NLC, count_N = _convolved(model, values, lengths)
    projected = model.feature_projection(features_NLC)
    tokens = projected[0] if isinstance(projected, tuple) else projected
    mask_NL = torch.arange(tokens.shape[1], device=tokens.device) < count_N[:, None]
    return model.encoder(tokens, attention_mask=mask_NL).last_hidden_state, mask_NL


def _convolved(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 1, T) samples -> (N, L, C) frames and (N,) how many of them are valid."""
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    shortest = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        shortest = (shortest - 1) * stride + kernel
    hidden_NCT = pad(values, (0, max(0, shortest - values.shape[2])))
    count_N = lengths.clamp_min(shortest)
    layers = model.feature_extractor.conv_layers
    for layer, kernel, stride in zip(layers, kernels, strides, strict=True):
        count_N = (count_N - kernel) // stride + 1
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            hidden_NCT = layer.activation(_masked_norm(norm, layer.conv(hidden_NCT), count_N))
        else:
            hidden_NCT = layer(hidden_NCT)
    return hidden_NCT.transpose(1, 2), count_N


def _masked_norm(norm: nn.GroupNorm, hidden_NCT: Tensor, count_N: Tensor) -> Tensor:
    """Each channel over its valid frames: the group norm of every recording alone."""
    assert norm.num_groups == norm.num_channels
    x_NCT, count_N11 = hidden_NCT.float(), count_N[:, None, None]
    valid_N1T = torch.arange(x_NCT.shape[2], device=x_NCT.device) < count_N11
    x_NCT = x_NCT - (x_NCT * valid_N1T).sum(2, keepdim=True) / count_N11
    variance_NC1 = (x_NCT.square() * valid_N1T).sum(2, keepdim=True) / count_N11
    scale_NC1 = (variance_NC1 + norm.eps).rsqrt() * norm.weight[:, None]
    return (x_NCT * scale_NC1 + norm.bias[:, None]).to(hidden_NCT.dtype)


def _tail_waveform(model: Any) -> list[nn.Module]:
    """Checkpoints without stable_layer_norm have that norm before the first block."""
    return [model.encoder.layer_norm] if model.config.do_stable_layer_norm else []


register(
    Family(
        model_types=("wav2vec2", "hubert", "wavlm"),
        modalities=("speech", "audio"),
        load=_load_waveform,
        front_end=_front_waveform,
        forward=_forward_waveform,
        layers=lambda model: list(model.encoder.layers),  # pyright: ignore
        tail=_tail_waveform,
        width=lambda config: config.hidden_size,
        pooling="mean",
    )
)


# Whisper


def _load_whisper(folder: Path, config: Any) -> nn.Module:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return load_model(WhisperEncoder, folder, key_mapping={r"^(model\.)?encoder\.": ""})


def _front_whisper(folder: Path, config: Any, adapter: Adapter, *, cut: bool = False) -> nn.Module:
    made = extractor_of(folder, adapter, "WhisperFeatureExtractor")
    refuse_shape(
        folder,
        (made.feature_size, made.nb_max_frames),
        (config.num_mel_bins, 2 * config.max_source_positions),
    )
    return WhisperFeatures(
        WhisperSpec(
            sample_rate=made.sampling_rate,
            n_mels=made.feature_size,
            n_fft=made.n_fft,
            hop=made.hop_length,
            seconds=made.chunk_length,
            cut=cut,
        )
    )


def _whisper_frames(model: Any) -> int:
    return 2 * model.config.max_source_positions


def _forward_whisper(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The silence that fills the 30 s is attended to, as in training; its tokens are not real."""
    tokens = model(values).last_hidden_state
    return tokens, torch.arange(tokens.shape[1], device=tokens.device) < (lengths[:, None] + 1) // 2


def _forward_cut_whisper(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Only real frames have positions and are attended to; each recording as if it were alone."""
    hidden = model.conv2(gelu(model.conv1(values)))
    longest = min(int(hidden.shape[2]), model.config.max_source_positions)
    hidden = gelu(hidden).transpose(1, 2)[:, :longest]
    hidden = hidden + model.embed_positions.weight[:longest]
    mask = torch.arange(longest, device=hidden.device) < (lengths[:, None] + 1) // 2
    for layer in model.layers:
        out = layer(hidden, mask[:, None, None])
        hidden = out[0] if isinstance(out, tuple) else out
    return model.layer_norm(hidden), mask


_WHISPER = Family(
    model_types=("whisper",),
    modalities=("speech", "audio"),
    load=_load_whisper,
    front_end=_front_whisper,
    forward=in_windows(_forward_whisper, _whisper_frames),
    layers=lambda model: list(model.layers),  # pyright: ignore
    tail=lambda model: [model.layer_norm],  # pyright: ignore
    width=lambda config: config.d_model,
    pooling="mean",
)
register(
    replace(
        _WHISPER,
        cut=replace(
            _WHISPER,
            front_end=partial(_front_whisper, cut=True),
            forward=in_windows(_forward_cut_whisper, _whisper_frames),
        ),
    )
)


# Audio Spectrogram Transformer


def _load_ast(folder: Path, config: Any) -> nn.Module:
    from transformers import ASTModel

    return load_model(ASTModel, folder)


def _front_ast(folder: Path, config: Any, adapter: Adapter) -> nn.Module:
    made = extractor_of(folder, adapter, "ASTFeatureExtractor")
    refuse_shape(
        folder, (made.num_mel_bins, made.max_length), (config.num_mel_bins, config.max_length)
    )
    return KaldiFeatures(
        KaldiSpec(
            sample_rate=made.sampling_rate,
            n_mels=made.num_mel_bins,
            frames=made.max_length,
            mean=made.mean if made.do_normalize else None,
            std=made.std if made.do_normalize else None,
        )
    )


def _ast_window(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The first token is the mean of AST's class and distillation tokens, which its own classifier
    reads; then come the patches, band by band, real if they begin in a real frame.
    """
    hidden = model(values.transpose(1, 2)).last_hidden_state
    tokens = torch.cat([hidden[:, :2].mean(1, keepdim=True), hidden[:, 2:]], dim=1)
    bands, columns = model.embeddings.get_shape(model.config)
    begin_C = torch.arange(columns, device=values.device) * model.config.time_stride
    real_NC = begin_C < lengths[:, None]
    return tokens, torch.cat([torch.ones_like(real_NC[:, :1]), real_NC.repeat(1, bands)], dim=1)


_ast_windows = in_windows(_ast_window, lambda model: model.config.max_length)


def _forward_ast(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Window after window, with one class token, the mean of theirs by what they hold of sound."""
    tokens, mask = _ast_windows(model, values, lengths)
    return one_class_token(tokens, mask, values.shape[2] // model.config.max_length)


register(
    Family(
        model_types=("audio-spectrogram-transformer",),
        modalities=("audio", "speech"),
        load=_load_ast,
        front_end=_front_ast,
        forward=_forward_ast,
        layers=lambda model: list(model.layers),  # pyright: ignore
        tail=lambda model: [model.layernorm],  # pyright: ignore
        width=lambda config: config.hidden_size,
        pooling="cls",
    )
)
