"""From CTranslate2's ``model.bin`` of Whisper to the folder that transformers reads.

The file (version 6) is little-endian: its version, the name and revision of the architecture, then
arrays, each a name, a shape, a type and its bytes, then names that stand for another array.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

VERSION, ARCHITECTURE = 6, "WhisperSpec"
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
START, NO_TIMESTAMPS, END = 50257, 50362, 50256


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name -> array, as stored. ValueError: another version, architecture or type, or cut short."""
    reader = _Reader(path.read_bytes())
    version, architecture, _ = reader.number("I"), reader.text(), reader.number("I")
    if (version, architecture) != (VERSION, ARCHITECTURE):
        raise ValueError(f"version {version} of {architecture}, not {VERSION} of {ARCHITECTURE}")
    arrays = dict(reader.array() for _ in range(reader.number("I")))
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        arrays[alias] = arrays[name]
    return arrays


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += struct.calcsize(f"<{kind}")
        return value

    def text(self) -> str:
        size = self.number("H")
        self.at += size
        return self.data[self.at - size : self.at].rstrip(b"\0").decode()

    def array(self) -> tuple[str, np.ndarray]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype, size = np.dtype(TYPES[self.number("B")]), self.number("I")
        values = np.frombuffer(self.data, dtype, size // dtype.itemsize, self.at)
        self.at += size
        return name, values.reshape(shape)


def transformers_weights(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays under transformers' names, fused projections taken apart."""
    out = {
        "model.encoder.embed_positions.weight": arrays["encoder/position_encodings/encodings"],
        "model.decoder.embed_positions.weight": arrays["decoder/position_encodings/encodings"],
        "model.decoder.embed_tokens.weight": arrays["decoder/embeddings/weight"],
    }
    for kind in ("weight", "bias"):
        for name in ("conv1", "conv2"):
            out[f"model.encoder.{name}.{kind}"] = arrays[f"encoder/{name}/{kind}"]
    for side in ("encoder", "decoder"):
        _norm(arrays, f"{side}/layer_norm", f"model.{side}.layer_norm", out)
        for i in range(_layers(arrays, side)):
            _layer(arrays, f"{side}/layer_{i}", f"model.{side}.layers.{i}", out)
    return out


def _layers(arrays: dict[str, np.ndarray], side: str) -> int:
    names = (name.split("/")[1] for name in arrays if name.startswith(f"{side}/layer_"))
    return 1 + max(int(n.removeprefix("layer_")) for n in names if n != "layer_norm")


def _layer(
    arrays: dict[str, np.ndarray], source: str, target: str, out: dict[str, np.ndarray]
) -> None:
    attention = f"{source}/self_attention"
    _norm(arrays, f"{attention}/layer_norm", f"{target}.self_attn_layer_norm", out)
    _split(arrays, f"{attention}/linear_0", f"{target}.self_attn", "qkv", out)
    _split(arrays, f"{attention}/linear_1", f"{target}.self_attn", ("out",), out)
    cross = f"{source}/attention"
    if f"{cross}/linear_0/weight" in arrays:
        _norm(arrays, f"{cross}/layer_norm", f"{target}.encoder_attn_layer_norm", out)
        _split(arrays, f"{cross}/linear_0", f"{target}.encoder_attn", "q", out)
        _split(arrays, f"{cross}/linear_1", f"{target}.encoder_attn", "kv", out)
        _split(arrays, f"{cross}/linear_2", f"{target}.encoder_attn", ("out",), out)
    _norm(arrays, f"{source}/ffn/layer_norm", f"{target}.final_layer_norm", out)
    for number, name in enumerate(("fc1", "fc2")):
        for kind in ("weight", "bias"):
            out[f"{target}.{name}.{kind}"] = arrays[f"{source}/ffn/linear_{number}/{kind}"]


def _norm(
    arrays: dict[str, np.ndarray], source: str, target: str, out: dict[str, np.ndarray]
) -> None:
    out[f"{target}.weight"], out[f"{target}.bias"] = (
        arrays[f"{source}/gamma"],
        arrays[f"{source}/beta"],
    )


def _split(
    arrays: dict[str, np.ndarray],
    source: str,
    target: str,
    parts: str | tuple[str, ...],
    out: dict[str, np.ndarray],
) -> None:
    """One linear layer that holds several; Whisper's keys have no bias, so theirs is zero."""
    for kind in ("weight", "bias"):
        values = np.split(arrays[f"{source}/{kind}"], len(parts))
        for part, value in zip(parts, values, strict=True):
            if (part, kind) == ("k", "bias"):
                assert not value.any(), f"{source}: keys have a bias"
            else:
                out[f"{target}.{part}_proj.{kind}"] = value


def write_transformers_folder(source: Path, folder: Path) -> None:
    """Weights (float16, as they come), config, generation, front end and tokenizer.

    source: holds model.bin, tokenizer.json and config.json, which names the tokens that OpenAI's
    decoder never writes ("[", ">>" and other signs that are not spoken), and never first.
    """
    from safetensors.numpy import save_file
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

    arrays = read_arrays(source / "model.bin")
    never = json.loads((source / "config.json").read_bytes())
    weights = transformers_weights(arrays)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    config = WhisperConfig(
        vocab_size=len(arrays["decoder/embeddings/weight"]),
        d_model=arrays["encoder/conv1/weight"].shape[0],
        num_mel_bins=arrays["encoder/conv1/weight"].shape[1],
        encoder_layers=_layers(arrays, "encoder"),
        decoder_layers=_layers(arrays, "decoder"),
        encoder_attention_heads=int(arrays["encoder/num_heads"]),
        decoder_attention_heads=int(arrays["decoder/num_heads"]),
        encoder_ffn_dim=len(arrays["encoder/layer_0/ffn/linear_0/bias"]),
        decoder_ffn_dim=len(arrays["decoder/layer_0/ffn/linear_0/bias"]),
        max_source_positions=len(arrays["encoder/position_encodings/encodings"]),
        max_target_positions=len(arrays["decoder/position_encodings/encodings"]),
        decoder_start_token_id=START,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        architectures=["WhisperForConditionalGeneration"],
    )
    config.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        decoder_start_token_id=START,
        no_timestamps_token_id=NO_TIMESTAMPS,
        is_multilingual=False,
        max_length=config.max_target_positions,
        suppress_tokens=never["suppress_ids"],
        begin_suppress_tokens=never["suppress_ids_begin"],
    ).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    named = {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = {"tokenizer_class": "WhisperTokenizer", **dict.fromkeys(named, "<|endoftext|>")}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
