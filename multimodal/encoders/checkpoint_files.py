"""What a checkpoint's folder may hold before transformers is given it.

A folder may come from anywhere. Of its files, transformers would follow names out of the folder,
fetch compiled code for attention, load pickles that an index names, and build a model of any size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multimodal.errors import UserError

LARGEST_JSON = 2**23  # bytes of config.json; indices and tokenizers are larger
ATTENTION = (None, "eager", "sdpa")  # what PyTorch itself has; others are fetched
LAYERS, HEADS = ("layers", "depth", "depths", "blocks"), ("heads",)
# Their keys are names that others chose, or numbers of layers.
OF_NAMES = ("label2id", "id2label", "task_specific_params", "pruned_heads")
MOST_LAYERS, LARGEST_NUMBER = 1_000, 2**40
WIDTHS = ("hidden_size", "d_model", "dim", "embed_dim")
ALWAYS, TIMES = 2**28, 16  # bytes that a config may announce: so many, and as often its weights


def checked_config(checkpoint: str, folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint; UserError unless all that it names is harmless and plausible."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no object of JSON")
    except (OSError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"checkpoint {checkpoint!r}: {path} is missing or damaged ({words}); name the folder "
            "that save_pretrained wrote."
        ) from error
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"checkpoint {checkpoint!r}: {folder} holds an adapter (adapter_config.json); name the "
            "folder of its base, or write both as one model (medley merge)."
        )
    files = [file for file in folder.glob("*.safetensors") if file.is_file()]
    weights = sum(file.stat().st_size for file in files)
    for key, value, section in _settings(config):
        if fault := _fault(key, value) or _too_large(section, weights) * (key in WIDTHS):
            raise UserError(
                f"checkpoint {checkpoint!r}: {path}: {fault}; take another checkpoint, or correct "
                "the setting if you know better."
            )
    _check_indices(checkpoint, folder)
    return config


def attention(config: dict[str, Any]) -> str | None:
    """ "eager" where the checkpoint's config asks for it; None: as transformers chooses."""
    asked = config.get("_attn_implementation", config.get("attn_implementation"))
    return "eager" if asked == "eager" else None


@contextmanager
def checkpoint_faults(checkpoint: str, folder: Path) -> Iterator[None]:
    """What transformers raises on a folder that is not what it seems, as a UserError: anything."""
    try:
        yield
    except (UserError, AssertionError):
        raise
    except Exception as error:
        raise UserError(
            f"checkpoint {checkpoint!r}: {folder} does not hold what its files say "
            f"({told(error)}); copy it again."
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of libraries that are written in Rust
            raise
        raise UserError(
            f"checkpoint {checkpoint!r}: {folder} holds a damaged file ({told(error)}); copy it "
            "again."
        ) from error


def told(error: BaseException) -> str:
    """Its kind and first words, on one line."""
    words = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(key, value, the section that it stands in) of all sections."""
    waiting: list[Any] = [config]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += [v for v in here if isinstance(v, dict | list)]
            continue
        for key, value in here.items():
            if key in OF_NAMES:
                continue
            yield key, value, here
            if isinstance(value, dict | list):
                waiting.append(value)


def _fault(key: str, value: Any) -> str:
    """In words; "" if there is none."""
    if "attn_implementation" in key or "experts_implementation" in key or key == "use_kernels":
        values = list(value.values()) if isinstance(value, dict) else [value]
        harmless = (False,) if key == "use_kernels" else (False, True)
        if any(v not in ATTENTION and not any(v is each for each in harmless) for v in values):
            return f"{key}={str(value)[:80]!r} asks for compiled code from elsewhere"
    if key == "quantization_config" and value is not None:
        return "its weights are quantised (quantization_config), and only floats are read"
    if key == "transformers_weights" and value is not None:
        return f"{key}={str(value)[:80]!r} names other files for its weights"
    word = key.rsplit("_", 1)[-1]
    if word in LAYERS or word in HEADS:
        least = 1 if word in HEADS else 0
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, bool) or (value and all(isinstance(v, str) for v in numbers)):
            numbers = []  # whether layers are shared; what each is called
        if isinstance(value, str):
            numbers = [value]
        if any(
            type(v) is not int or not least <= v <= MOST_LAYERS for v in numbers if v is not None
        ):
            return f"{key}={str(value)[:80]} is no number of {least} to {MOST_LAYERS:,}"
    if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER and key.endswith("size"):
        return f"{key}={str(value)[:80]} is too large"
    return ""


def _too_large(section: dict[str, Any], weights: int) -> str:
    """Whether blocks of that width would be far larger than the files of the weights."""
    width = max((v for k in WIDTHS if isinstance(v := section.get(k), int)), default=0)
    named = [v for k, v in section.items() if k.rsplit("_", 1)[-1] in LAYERS]
    layers = max((v for v in named if isinstance(v, int) and v <= MOST_LAYERS), default=1)
    announced = 16 * width * width * max(1, layers)
    if announced <= ALWAYS + TIMES * weights:
        return ""
    return f"a width of {width:,} in {layers} layers, and {weights:,} bytes of weights beside it"


def _check_indices(checkpoint: str, folder: Path) -> None:
    """UserError for an index that names pickles, or files elsewhere."""
    for path in sorted(folder.glob("*.safetensors.index.json")):
        try:
            names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            bad = [n for n in names if not _is_beside(n)]
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as e:
            raise UserError(f"checkpoint {checkpoint!r}: {path} is damaged ({told(e)}).") from e
        if bad:
            raise UserError(
                f"checkpoint {checkpoint!r}: {path} names {str(bad[0])[:80]!r}, which is no "
                "*.safetensors file beside it; copy the checkpoint again."
            )


def _is_beside(name: Any) -> bool:
    plain = isinstance(name, str) and "/" not in name and "\\" not in name
    return plain and name.endswith(".safetensors")
