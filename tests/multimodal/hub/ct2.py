"""A writer of CTranslate2's file of Whisper, from a transformers state dict, for tests."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

TYPES = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}


def write_model(path: Path, state: dict[str, np.ndarray], *, layers: int, heads: int) -> None:
    """state: of a WhisperForConditionalGeneration with ``layers`` on both sides; as float16."""
    arrays = {"decoder/pre_norm": np.int8(1)}
    for side in ("encoder", "decoder"):
        names = {"layer_norm": "layer_norm"}
        for i in range(layers):
            names |= _names(side, i)
        for source, target in names.items():
            _take(arrays, state, f"model.{side}.{source}", f"{side}/{target}")
        arrays[f"{side}/num_heads"] = np.int16(heads)
        arrays[f"{side}/position_encodings/encodings"] = state[
            f"model.{side}.embed_positions.weight"
        ]
        for i in range(layers):
            _fuse(arrays, state, side, i)
    for conv in ("conv1", "conv2"):
        _take(arrays, state, f"model.encoder.{conv}", f"encoder/{conv}")
    arrays["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    floats = {k: v.astype("f2") if v.dtype.kind == "f" else v for k, v in arrays.items()}
    alias = [("decoder/projection/weight", "decoder/embeddings/weight")]
    path.write_bytes(packed(6, "WhisperSpec", floats, alias))


def packed(
    version: int, spec: str, arrays: dict[str, np.ndarray], aliases: list[tuple[str, str]]
) -> bytes:
    out = [struct.pack("<I", version), _text(spec), struct.pack("<II", 3, len(arrays))]
    for name, value in sorted(arrays.items()):
        shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        size = struct.pack("<BI", TYPES[str(value.dtype)], value.nbytes)
        out += [_text(name), shape, size, value.tobytes()]
    out += [struct.pack("<I", len(aliases)), *(_text(word) for pair in aliases for word in pair)]
    return b"".join(out)


def _text(word: str) -> bytes:
    data = word.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def _names(side: str, i: int) -> dict[str, str]:
    """Layers that stand for themselves: transformers' name -> the file's."""
    source, target = f"layers.{i}", f"layer_{i}"
    names = {
        f"{source}.self_attn_layer_norm": f"{target}/self_attention/layer_norm",
        f"{source}.self_attn.out_proj": f"{target}/self_attention/linear_1",
        f"{source}.final_layer_norm": f"{target}/ffn/layer_norm",
        f"{source}.fc1": f"{target}/ffn/linear_0",
        f"{source}.fc2": f"{target}/ffn/linear_1",
    }
    if side == "decoder":
        names |= {
            f"{source}.encoder_attn_layer_norm": f"{target}/attention/layer_norm",
            f"{source}.encoder_attn.q_proj": f"{target}/attention/linear_0",
            f"{source}.encoder_attn.out_proj": f"{target}/attention/linear_2",
        }
    return names


def _take(
    arrays: dict[str, np.ndarray], state: dict[str, np.ndarray], source: str, target: str
) -> None:
    norm = source.endswith("norm")
    arrays[f"{target}/{'gamma' if norm else 'weight'}"] = state[f"{source}.weight"]
    arrays[f"{target}/{'beta' if norm else 'bias'}"] = state[f"{source}.bias"]


def _fuse(arrays: dict[str, np.ndarray], state: dict[str, np.ndarray], side: str, i: int) -> None:
    fused = {"self_attn": ("self_attention/linear_0", "qkv")}
    if side == "decoder":
        fused["encoder_attn"] = ("attention/linear_1", "kv")
    for source, (target, parts) in fused.items():
        base = f"model.{side}.layers.{i}.{source}"
        weights = [state[f"{base}.{part}_proj.weight"] for part in parts]
        biases = [
            state.get(f"{base}.{part}_proj.bias", np.zeros(len(w), "f4"))
            for part, w in zip(parts, weights, strict=True)
        ]
        arrays[f"{side}/layer_{i}/{target}/weight"] = np.concatenate(weights)
        arrays[f"{side}/layer_{i}/{target}/bias"] = np.concatenate(biases)
