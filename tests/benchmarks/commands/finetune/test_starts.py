"""``init`` of a run of ``medley bench`` or ``align``: the very encoder that answered there, or a
refusal that says why there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.commands.align.command import run_align
from benchmarks.commands.bench import stream_run
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import build_learner
from benchmarks.commands.finetune.config import FinetuneConfig
from benchmarks.commands.finetune.encoder import build_parts
from benchmarks.commands.finetune.opening import open_start
from benchmarks.commands.finetune.start import resolved
from benchmarks.config.loading import validate
from benchmarks.runs import machine, session
from continual.learner import Learner
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities.log_mel import Finishing
from tests.benchmarks.commands.align_text import ALIGN
from tests.multimodal.encoders import audio_checkpoints
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_data

COMPACT = {"name": "compact", "width": 16, "depth": 1, "heads": 2}
FROZEN = {**COMPACT, "train": "none"}
LORA: dict[str, Any] = {"name": "lora", "rank": 2, "base": COMPACT}
TUNED: dict[str, Any] = {"name": "lora", "rank": 2, "base": {"name": "pretrained"}}
WARM_UP = {"dataset": {"name": "toy", "train": 2, "test": 1}, "epochs": 2, "learning_rate": 0.02}
ALIGNED = ("more", "cwcl")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Of sounds and of texts."""
    places = tmp_path_factory.mktemp("sounds"), tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    audio_checkpoints.waveform(places[0])
    save_text_checkpoint(places[1], "bert")
    return str(places[0]), str(places[1])


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    monkeypatch.setattr(session, "write_html", lambda _, path: path)
    monkeypatch.setattr(machine, "git_commit", lambda: None)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Learner, Tensor]]:
    """The learners of the runs of a test, and what their encoders gave before the first step."""
    found: list[tuple[Learner, Tensor]] = []

    def build(*parts: Any) -> Learner:
        learner = build_learner(*parts)
        found.append((learner, embedded(learner)))
        return learner

    monkeypatch.setattr(stream_run, "build_learner", build)
    return found


def some() -> Batch:
    signals = torch.randn(3, 1, 2400, generator=torch.Generator().manual_seed(2))
    unused = torch.zeros(3, dtype=torch.int64)
    return Batch(signals, unused + 2400, unused, unused)


@torch.no_grad()
def embedded(learner: Learner) -> Tensor:
    tower = learner.tower()
    if tower is None:
        return torch.zeros(())
    front_end, encoder, training = tower.front_end, tower.encoder, learner.model.training
    if isinstance(front_end, Finishing):  # of features; these are signals
        front_end = front_end.front_end
    learner.model.eval()
    features = front_end(some())
    found = encoder(features.values, features.lengths).pooled
    learner.model.train(training)
    return found


def bench(
    learner: dict[str, Any],
    encoder: dict[str, Any],
    place: Path,
    files: tuple[str, str],
    **more: Any,
) -> Path:
    """The folder of a finished run."""
    if learner["name"] in ALIGNED:
        learner = {**learner, "text": {"checkpoint": files[1], "max_length": 16}}
    if encoder.get("base", encoder)["name"] == "pretrained":
        own = {"name": "pretrained", "checkpoint": files[0]}
        encoder = {**encoder, "base": own} if "base" in encoder else own
    training = {"epochs": 1, "batch_size": 8, "device": "cpu", "learning_rate": 0.02}
    config = toy_data(
        dataset={"name": "toy", "train": 2, "test": 1},
        encoder=encoder,
        learners=[learner],
        training=training,
        output_dir=str(place),
        **more,
    )
    cells = Cells(validate(RunConfig, config, source="toy"))
    cells.run_cell(0)
    return cells.cells[0].folder


@torch.no_grad()
def started(folder: Path, **more: Any) -> Tensor:
    """What the encoder of ``init=folder`` gives before it is trained."""
    data: dict[str, Any] = {"experiment": "x", "dataset": "toy", "methods": ["head"], **more}
    config = FinetuneConfig.parse({**data, "init": str(folder)})
    start = open_start(config)
    assert start is not None
    config = resolved(config, start)
    adapter: Any = config.modality.build()  # pyright: ignore[reportAttributeAccessIssue]
    parts = build_parts(config, adapter, start)
    features = parts.front_end(some())
    parts.encoder.eval()
    return parts.encoder(features.values, features.lengths).pooled


CASES = [
    *(
        (name, encoder, {})
        for name in ("more", "cwcl", "er_ace", "lwf")
        for encoder in (COMPACT, LORA, TUNED)
    ),
    ({"name": "more", "adapter": "merged"}, LORA, {}),
    ({"name": "more", "adapter": "merged"}, TUNED, {}),
    *((name, LORA, {"warm_up": WARM_UP}) for name in ("more", "er_ace", "lwf")),
    ("cwcl", FROZEN, {"warm_up": WARM_UP}),
    ("slda", FROZEN, {"warm_up": WARM_UP}),
]


@pytest.mark.parametrize(("learner", "encoder", "more"), CASES)
def test_the_encoder_is_that_of_the_run(
    learner: Any, encoder: dict[str, Any], more: dict[str, Any], checkpoints, made, tmp_path
) -> None:
    settings = {"name": learner} if isinstance(learner, str) else learner
    folder = bench(settings, encoder, tmp_path, checkpoints, **more)
    model, before = made[-1]
    found, expected = started(folder), embedded(model)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if encoder is not FROZEN:
        assert not torch.allclose(found, before, atol=1e-3)


@pytest.mark.parametrize(
    ("learner", "encoder", "said"),
    [
        ("linear_probe", FROZEN, "random weights, so there is nothing to start from"),
        ("slda", COMPACT, "random weights"),
        ("cwcl", FROZEN, "random weights"),
        ("linear_probe", {"name": "pretrained"}, "is still checkpoint"),
        ("majority", COMPACT, "learner 'majority' leaves no encoder to start from"),
        ("l2p", FROZEN, "learner 'l2p' leaves no encoder to start from"),
    ],
)
def test_what_was_not_trained_is_no_start(
    learner: str, encoder: dict[str, Any], said: str, checkpoints, tmp_path
) -> None:
    folder = bench({"name": learner}, encoder, tmp_path, checkpoints)
    with pytest.raises(UserError, match=said):
        started(folder)


def changed(checkpoint: str, place: Path) -> None:
    """A copy of a checkpoint at ``place``, every weight of it moved."""
    from safetensors.torch import load_file, save_file

    place.mkdir(exist_ok=True)
    for file in Path(checkpoint).iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    weights = load_file(place / "model.safetensors")
    save_file(
        {k: v + 0.1 for k, v in weights.items()}, place / "model.safetensors", {"format": "pt"}
    )


@pytest.mark.parametrize("learner", ["er_ace", "more"])
def test_a_checkpoint_that_has_changed_since(learner: str, checkpoints, tmp_path) -> None:
    audio = tmp_path / "base"
    audio.mkdir()
    torch.manual_seed(0)
    audio_checkpoints.waveform(audio)
    folder = bench({"name": learner}, TUNED, tmp_path / "runs", (str(audio), checkpoints[1]))
    started(folder)
    changed(checkpoints[0], audio)
    with pytest.raises(UserError, match=r"init=.*other frozen weights"):
        started(folder)


def test_an_aligned_run_over_a_checkpoint(checkpoints, tiny, monkeypatch) -> None:
    """Frozen it is no start, with LoRA it is, and not beside other frozen weights."""
    monkeypatch.chdir(tiny)
    audio = tiny / "base"
    changed(checkpoints[0], audio)
    (tiny / "align.yaml").write_text(ALIGN)
    text, base = (
        f"text={{checkpoint: {checkpoints[1]}, max_length: 16}}",
        "{name: pretrained, checkpoint: base}",
    )
    words = [text, "objectives=[clip]"]
    run_align(tiny / "align.yaml", [*words, f"encoder={base}", "experiment=frozen"])
    with pytest.raises(UserError, match="is still checkpoint 'base'"):
        started(tiny / "runs/frozen")
    run_align(tiny / "align.yaml", [*words, f"encoder={{name: lora, base: {base}}}"])
    started(tiny / "runs/tones")
    changed(checkpoints[0], tiny / "twice")
    changed(str(tiny / "twice"), audio)
    with pytest.raises(UserError, match=r"init=.*other frozen weights"):
        started(tiny / "runs/tones")
