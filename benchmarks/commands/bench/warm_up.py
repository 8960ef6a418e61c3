"""A frozen encoder from other data: it is trained on a dataset first, once, and then kept.

Prompt methods, analytic heads and linear probes need an encoder that knows something. Where no
checkpoint is at hand, ``warm_up`` trains the config's own encoder on another dataset of the same
modality (a synthetic one needs no download), jointly on all of its classes. That is a run like any
other, with its folder, report and checkpoints below ``<output_dir>/warm_up``; runs that share
modality, encoder and warm-up settings share it. Only the encoder's weights are taken from it. Of an
encoder with LoRA the base is trained so, whole; the adapter is of the run itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.commands.bench.config import RunConfig
from multimodal.digests import DamagedFile, read_tensors

EXPERIMENT = "warm_up"
PARTS = ("front_end.", "encoder.")


def warm_up_config(config: RunConfig) -> RunConfig:
    """The run that makes the encoder's weights."""
    settings = config.warm_up
    assert settings is not None
    encoder = config.encoder.dump()
    encoder = encoder.get("base", encoder)  # LoRA adapts an encoder that knows something
    if "train" in encoder:
        encoder["train"] = "all"
    training = {
        **config.training.dump(),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "weight_decay": 0.01,
    }
    data: dict[str, Any] = {
        "experiment": EXPERIMENT,
        "dataset": settings.dataset.dump(),
        "modality": config.modality.dump(),
        "encoder": encoder,
        "scenario": {"name": "class_incremental", "num_experiences": 1},
        "learners": ["joint"],
        "seeds": [settings.seed],
        "training": training,
        "tracking": {"store": "none", "log_models": True},
    }
    shared = ("data_root", "output_dir", "cache", "skip_damaged", "quick")
    return RunConfig.parse({**data, **{name: getattr(config, name) for name in shared}})


def warmed_weights(folder: Path) -> dict[str, Tensor]:
    """Of front end and encoder, from the folder of the finished run of ``warm_up_config``.

    DamagedFile: they are gone, or not what was written.
    """
    files = sorted((folder / "models").glob("*.safetensors"))
    if not files:
        raise DamagedFile(f"{folder}/models: the encoder's weights are gone")
    weights = read_tensors(files[-1]).tensors
    return {name: value for name, value in weights.items() if name.startswith(PARTS)}
