"""What an alignment starts from: the model of an earlier one (``init``)."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.commands.align.config import AlignConfig
from benchmarks.config.loading import read_back
from benchmarks.results.result import RESULT_FILE
from benchmarks.runs.inputs import Inputs, digests_file
from multimodal import contents
from multimodal.digests import DamagedFile, read_tensors
from multimodal.errors import UserError
from multimodal.models.towers import Aligned

MODEL_FILE = "model.safetensors"
REMEDY = "train it first, or correct init"


def start_folder(config: AlignConfig) -> Path | None:
    """The run that a cell starts from, which is the one of the same seed; None: it starts anew.

    UserError: no such run, or several of this seed.
    """
    if config.init is None:
        return None
    place = Path(config.init).expanduser()
    if not place.is_dir():
        place = Path(config.output_dir).expanduser() / config.init
    if (place / RESULT_FILE).is_file():
        return _with_model(place)
    seed = config.seeds[0]
    runs = [file.parent for file in sorted(place.glob(f"*/{RESULT_FILE}"))]
    found = [run for run in runs if read_back(AlignConfig, run, REMEDY).seeds == (seed,)]
    if len(found) != 1:
        many = f"{len(found)} finished runs" if found else "no finished run"
        raise UserError(
            f"init={config.init}: {place} has {many} of seed {seed}; "
            + ("name the folder of one of them." if found else f"{REMEDY}.")
        )
    return _with_model(found[0])


def _with_model(run: Path) -> Path:
    if not (run / MODEL_FILE).is_file():
        raise UserError(f"init: {run} is no run of `medley align` with a model; {REMEDY}.")
    return run


def start_inputs(config: AlignConfig) -> Inputs:
    """The digest of the model that a cell starts from."""
    folder = start_folder(config)
    if folder is None:
        return {}
    return {"init": contents.digest([folder / MODEL_FILE], digests_file(config))}


@torch.no_grad()
def load_start(model: Aligned, folder: Path) -> None:
    """Everything that the earlier run trained takes the place of what ``model`` began with, also
    where it is frozen now. UserError: the file is damaged, or of other encoders.
    """
    path = folder / MODEL_FILE
    try:
        tensors, _, _ = read_tensors(path)
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {REMEDY}.") from error
    own = model.state_dict()
    wrong = [n for n, t in tensors.items() if n not in own or own[n].shape != t.shape]
    if wrong:
        here = tuple(own[wrong[0]].shape) if wrong[0] in own else "absent"
        raise UserError(
            f"init: {path} does not fit the encoders of this config ({wrong[0]}: "
            f"{tuple(tensors[wrong[0]].shape)} there, {here} here); set them as they were there."
        )
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
