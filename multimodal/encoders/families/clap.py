"""The audio tower of CLAP (Wu et al. 2023), HTSAT (Chen et al. 2022), without feature fusion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from multimodal.batch import Features
from multimodal.encoders.families import Family, load_model, load_processor, register
from multimodal.encoders.families.audio_features import (
    FrontEnd,
    extractor_of,
    mel_filters,
    power_spectrum,
    refuse_shape,
)
from multimodal.encoders.families.windows import in_windows
from multimodal.errors import UserError
from multimodal.modalities import Adapter

CLAP_FLOOR = 1e-10
Padding = Literal["repeatpad", "repeat", "pad"]
Crop = Literal["windows", "start", "centre"]


@dataclass(frozen=True)
class ClapSpec:
    """sample_rate: Hz. n_fft, hop, window: samples. low_hz, high_hz: outer edges of the bands.

    padding: how shorter recordings fill the window: "repeatpad" whole copies, then zeros; "repeat"
    copies, the last one cut; "pad" zeros. crop: which part of longer ones is read; "windows": all
    of it, one window after the other.
    """

    sample_rate: int
    n_mels: int
    n_fft: int
    hop: int
    window: int
    low_hz: float
    high_hz: float
    padding: Padding
    crop: Crop


class ClapFeatures(FrontEnd):
    """CLAP without fusion (ClapFeatureExtractor, truncation "rand_trunc"), 10 s at 48 kHz.

    y = 10 log10(max(mel, 1e-10)), Slaney's mel bands of unit area. The extractor cuts a RANDOM
    window out of longer recordings; here it is always the same one, ``crop``, or all windows in a
    row, each of which is what the extractor makes of it alone.
    values: (N, n_mels, windows x (1 + window // hop)). lengths: (N,) all frames of recordings of
    one window: the copies and the zeros are what the model was trained to pool over. Of longer ones
    those in sound, so that a short end counts as much as it lasts.
    """

    spec: ClapSpec
    filters_BF: Tensor

    def __init__(self, spec: ClapSpec) -> None:
        super().__init__(spec)
        filters_FB = mel_filters(
            spec.n_fft, spec.n_mels, spec.low_hz, spec.high_hz, spec.sample_rate, norm="slaney"
        )
        self.register_buffer("filters_BF", filters_FB.T.contiguous(), persistent=False)

    def features(self, signal_NT: Tensor, lengths_N: Tensor) -> Features:
        if self.spec.crop != "windows":
            values_NBT = self._decibels(signal_NT, lengths_N)
            return Features(values_NBT, torch.full_like(lengths_N, values_NBT.shape[2]))
        window, frames = self.spec.window, 1 + self.spec.window // self.spec.hop
        if signal_NT.shape[1] > window:
            signal_NT = signal_NT[:, : int(lengths_N.max())]
        parts = [
            # A row without sound in a window has one sample of silence.
            self._decibels(part_NT, (lengths_N - number * window).clamp(1, window))
            for number, part_NT in enumerate(signal_NT.split(window, dim=1))
        ]
        before_N = (lengths_N - 1) // window
        last_N = -(-(lengths_N - before_N * window) * frames // window)
        last_N = last_N.where(before_N > 0, frames)
        return Features(torch.cat(parts, dim=2), before_N * frames + last_N)

    def _decibels(self, signal_NT: Tensor, lengths_N: Tensor) -> Tensor:
        """(N, n_mels, frames) of one window a recording."""
        # In float32 the rounding errors of loud bands would move quiet ones by up to 0.05 dB.
        windows_NW = self._windows(signal_NT, lengths_N[:, None]).double()
        power_NFT = power_spectrum(windows_NW, self.spec.n_fft, self.spec.hop)
        return 10 * (self.filters_BF @ power_NFT).clamp_min(CLAP_FLOOR).log10()

    def _windows(self, signal_NT: Tensor, count_N1: Tensor) -> Tensor:
        """(N, window) samples: cropped, or filled as ``padding`` says."""
        window = self.spec.window
        at_W = torch.arange(window, device=signal_NT.device)
        first_N1 = (count_N1 - window).clamp_min(0) // 2 if self.spec.crop == "centre" else 0
        windows_NW = signal_NT.gather(1, first_N1 + at_W % count_N1)
        if self.spec.padding == "repeat":
            return windows_NW
        copies_N1 = window // count_N1 if self.spec.padding == "repeatpad" else 1
        # A longer recording has no whole copy in the window, but it fills it.
        return windows_NW * ((at_W < copies_N1 * count_N1) | (count_N1 > window))


def _refuse_fusion(folder: Path, config: Any) -> None:
    if config.audio_config.enable_fusion:
        raise UserError(
            f"{folder}: CLAP with fusion (enable_fusion=true) mixes random crops of long "
            "recordings, so its embeddings vary; give a checkpoint without fusion, e.g. "
            "laion/clap-htsat-unfused."
        )


def _load(folder: Path, config: Any) -> nn.Module:
    from transformers import AutoFeatureExtractor, ClapAudioModel

    _refuse_fusion(folder, config)
    model = load_model(
        ClapAudioModel, folder, config=config.audio_config, key_mapping={r"^audio_model\.": ""}
    )
    made = load_processor(AutoFeatureExtractor, folder, "preprocessor_config.json")
    model.window_frames = _frames(made)
    return model


def _frames(extractor: Any) -> int:
    """Of a window."""
    return 1 + extractor.nb_max_samples // extractor.hop_length


def _front_end(folder: Path, config: Any, adapter: Adapter) -> nn.Module:
    """Of every window of longer recordings."""
    _refuse_fusion(folder, config)
    made, audio = extractor_of(folder, adapter, "ClapFeatureExtractor"), config.audio_config
    if made.truncation != "rand_trunc" or made.padding not in get_args(Padding):
        raise UserError(
            f"{folder}: preprocessor_config.json has truncation={made.truncation!r}, "
            f"padding={made.padding!r}; an encoder without fusion needs truncation='rand_trunc' "
            f"and one of padding={', '.join(get_args(Padding))}."
        )
    frames = _frames(made)
    # Shorter spectrograms are stretched to the image that HTSAT reads.
    image = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
    refuse_shape(folder, (made.feature_size, frames), (audio.num_mel_bins, min(frames, image)))
    return ClapFeatures(
        ClapSpec(
            sample_rate=made.sampling_rate,
            n_mels=made.feature_size,
            n_fft=made.fft_window_size,
            hop=made.hop_length,
            window=made.nb_max_samples,
            low_hz=made.frequency_min,
            high_hz=made.frequency_max,
            padding=made.padding,
            crop="windows",
        )
    )


def _forward(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """HTSAT's last map, L = bands x steps, real if they begin in a real frame; of a recording in
    one window all are, so their mean is the model's own embedding.
    """
    map_NDBS = model(values.transpose(1, 2)[:, None]).last_hidden_state
    bands, steps = map_NDBS.shape[2:]
    begin_S = torch.arange(steps, device=values.device) * values.shape[2]
    real_NS = begin_S < lengths[:, None] * steps
    return map_NDBS.flatten(2).transpose(1, 2), real_NS.repeat(1, bands)


def _layers(model: Any) -> list[nn.Module]:
    return [block for stage in model.audio_encoder.layers for block in stage.blocks]


def _width(config: Any) -> int:
    audio = config.audio_config
    return audio.patch_embeds_hidden_size * 2 ** (len(audio.depths) - 1)


register(
    Family(
        model_types=("clap",),
        modalities=("audio", "speech"),
        load=_load,
        front_end=_front_end,
        forward=in_windows(_forward, lambda model: model.window_frames),  # pyright: ignore
        layers=_layers,
        tail=lambda model: [model.audio_encoder.norm],  # pyright: ignore
        width=_width,
        pooling="mean",
    )
)
