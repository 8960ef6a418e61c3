"""What an objective keeps of each case is a part of the training: it goes on with it exactly."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.align_task import AlignTask, Source
from multimodal.models.captions import Captions
from multimodal.models.towers import Reader, TextTowerConfig, build_aligned
from multimodal.objectives import OBJECTIVES
from multimodal.signals import SignalCache
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_manifest

ROWS = np.array([0, 1, 2, 3, 12, 13, 14, 24, 25, 26, 36, 37])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder, "bert")
    return folder


def task_of(checkpoint: Path, objective: Any) -> AlignTask:
    torch.manual_seed(0)
    adapter = SpeechConfig().build()
    encoder = CompactConfig(width=16, depth=1, heads=2, dropout=0.0)
    reader = Reader(encoder.front_end(adapter), encoder.build(adapter))
    text = TextTowerConfig(checkpoint=str(checkpoint), max_length=16)
    model = build_aligned({"speech": reader}, text, width=12)
    manifest = toy_manifest()
    captions = Captions([f"tone {i % 7}" for i in range(len(manifest))], model, settings={})
    captions.ensure(ROWS)
    sources = {"speech": Source(SignalCache(manifest, adapter, progress=False))}
    chosen: Any = OBJECTIVES.parse(objective)
    return AlignTask(model, sources, captions, chosen)


def fit_of(task: AlignTask, after: Any = None) -> Fit:
    config = FitConfig(epochs=2, batch_size=4, learning_rate=0.01, device="cpu", micro_batch=2)
    lengths = np.ones(len(ROWS), dtype=np.int64)
    return Fit(task, config, rows=ROWS, lengths=lengths, seed=3, after_step=after)


def test_training_goes_on_with_what_was_kept_of_each_case(checkpoint) -> None:
    saved: list[bytes] = []

    def keep(fit: Fit) -> None:
        file = io.BytesIO()
        torch.save(fit.state_dict(), file)
        saved.append(file.getvalue())

    whole = fit_of(task_of(checkpoint, "isogclr"), keep)
    whole.run()
    assert len(saved) == 6
    again = fit_of(task_of(checkpoint, "isogclr"))
    again.load_state_dict(torch.load(io.BytesIO(saved[3]), weights_only=True))
    again.run()
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name]), name
    tables = [fit.state_dict()["tables"]["speech"] for fit in (whole, again)]
    torch.testing.assert_close(*tables, rtol=0, atol=0, equal_nan=True)
    assert tables[0].isfinite().all(1).nonzero()[:, 0].tolist() == ROWS.tolist()
    torch.testing.assert_close(whole.loss, again.loss, rtol=0, atol=0)


def test_objectives_that_keep_nothing_save_as_ever(checkpoint) -> None:
    assert "tables" not in fit_of(task_of(checkpoint, "clip")).state_dict()


def test_labels_of_recordings_are_not_there_to_align_with(checkpoint) -> None:
    objective = {"name": "soft_top_k", "candidates": "labels"}
    with pytest.raises(UserError, match="asks for class prompts and labels"):
        task_of(checkpoint, objective)
