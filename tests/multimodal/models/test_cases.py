"""Cases of several modalities, some of which lack one: what is loaded, embedded and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multimodal.batch import Batch
from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.align_task import AlignTask, Source, numbered
from multimodal.models.captions import Captions
from multimodal.models.towers import Reader, TextTowerConfig, build_aligned
from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.views import TEXT
from multimodal.signals import SignalCache
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit
from multimodal.training.grad_cache import backward_in_parts
from multimodal.training.processes import average_gradients
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.multimodal.objectives.tools.gloo import in_processes
from tests.toy import toy_manifest

# Of each case: its recording of the left and of the right modality, and its text.
LEFT = np.array([3, 0, 7, 12, -1, 5, 20, 30])
RIGHT = np.array([-1, 2, -1, 4, 9, -1, 11, -1])
WORDS = ["a dog", "rain", "", "a bell", "rain", "heart sound", "a dog", "snow"]


class Watched(SignalCache):
    """Notes which rows are asked for."""

    def gather(self, indices: Any) -> Batch:
        self.asked = [*getattr(self, "asked", []), *np.asarray(indices).tolist()]
        return super().gather(indices)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder, "bert")
    return folder


@pytest.fixture
def make(checkpoint: Path) -> Any:
    def build(objective: Any = "clip", train: Any = "none", width: int | None = 12) -> AlignTask:
        torch.manual_seed(0)
        adapter, encoder = SpeechConfig().build(), CompactConfig(width=16, depth=1, heads=2)
        readers = {
            name: Reader(encoder.front_end(adapter), encoder.build(adapter))
            for name in ("left", "right")
        }
        text = TextTowerConfig(checkpoint=str(checkpoint), max_length=16, train=train)
        model = build_aligned(readers, text, width=width)
        sources = {
            name: Source(Watched(toy_manifest(), adapter), rows)
            for name, rows in (("left", LEFT), ("right", RIGHT))
        }
        chosen = (
            objective if isinstance(objective, AlignmentConfig) else OBJECTIVES.parse(objective)
        )
        captions = Captions(WORDS, model, settings={})
        groups = numbered(["p1", "", "p1", "p2", "", "p3", "p2", "p4"])
        return AlignTask(model, sources, captions, chosen, groups=groups)

    return build


def test_only_what_is_there_is_loaded_and_embedded_where_it_stands(make) -> None:
    task, rows = make(), np.array([7, 3, 2, 4])
    batch = task.load(rows)
    assert len(batch) == 4
    assert task.sources["left"].signals.asked == [30, 12, 7]
    assert task.sources["right"].signals.asked == [4, 9]
    task.module.eval()
    left, right, texts, source = task.embed(batch)
    model, signals = task.module, SignalCache(toy_manifest(), SpeechConfig().build())
    expected = model.embed_signals(signals.gather([4, 9]), "right")
    torch.testing.assert_close(right[[1, 3]], expected, atol=1e-5, rtol=0)
    assert not right[[0, 2]].any()
    assert not left[3].any()
    said = model.embed_texts(["snow", "a bell", "rain"])
    torch.testing.assert_close(texts[[0, 1, 3]].detach(), said, atol=1e-5, rtol=0)
    assert not texts[2].any()
    assert not source[2].any()
    views = task.views((left, right, texts, source), rows)
    assert {name: mask.tolist() for name, mask in views.present.items()} == {
        "left": [True, True, True, False],
        "right": [False, True, False, True],
        TEXT: [True, True, False, True],
    }
    assert views.groups is not None
    assert len(set(views.groups.tolist())) == 4


def test_the_loss_is_that_of_the_pairs_there_are(make) -> None:
    task, rows = make(), np.arange(8)
    task.module.eval()
    left, right, texts, source = task.embed(task.load(rows))
    loss = task.loss((left, right, texts, source), rows)
    said, scale = np.array([bool(w) for w in WORDS]), task.module.scale
    expected = sum(
        info_nce(x[both], texts[both], scale).value
        for x, both in ((left, (LEFT >= 0) & said), (right, (RIGHT >= 0) & said))
    )
    torch.testing.assert_close(loss.value, expected)
    assert "right/accuracy_a_to_b" in loss.terms
    none = np.array([0, 2, 5, 7])  # none of them has a right
    alone = task.loss(task.embed(task.load(none)), none)
    assert not any(key.startswith("right/") for key in alone.terms)


@pytest.mark.parametrize(("objective", "train"), [("clip", "none"), ("siglip", "all")])
@pytest.mark.parametrize("rows", [np.arange(8), np.array([6, 3, 1, 4, 0, 2, 5, 7])])
def test_gradients_in_parts_are_those_of_the_whole_batch(make, objective, train, rows) -> None:
    """The last part may lack a modality that the others have, and a text too."""
    whole, parted = make(objective, train), make(objective, train)
    for task in (whole, parted):
        task.module.eval()
    expected = whole.loss(whole.embed(whole.load(rows)), rows)
    expected.value.backward()
    for size in (1, 2, 5):
        parted.module.zero_grad()
        places = [rows[i : i + size] for i in range(0, len(rows), size)]
        loss, _ = backward_in_parts(
            parted.embed,
            lambda x: parted.loss(x, rows),
            [parted.load(part) for part in places],
            backward=lambda x: x.backward(),
        )
        torch.testing.assert_close(loss.value, expected.value.detach(), atol=1e-5, rtol=1e-5)
        for a, b in zip(whole.module.parameters(), parted.module.parameters(), strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None and b.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)


def test_a_fit_trains_every_tower(make) -> None:
    task = make()
    before = {name: p.detach().clone() for name, p in task.module.named_parameters()}
    config = FitConfig(epochs=2, batch_size=4, micro_batch=2, device="cpu", learning_rate=0.01)
    fit = Fit(task, config, rows=np.arange(8), lengths=np.ones(8), seed=1)
    fit.run()
    assert np.isfinite(fit.log()["loss"])
    for name in ("signals.left.projection", "signals.right.projection", "text.projection"):
        key = f"{name}.weight"
        assert not torch.equal(task.module.get_parameter(key), before[key])


@pytest.mark.parametrize("learned", [False, True])
def test_a_learned_temperature_really_reaches_the_optimiser(make, learned: bool) -> None:
    objective = OBJECTIVES.parse({"name": "more", "learn_temperature": learned})
    task, start = make(objective), objective.start  # pyright: ignore[reportAttributeAccessIssue]
    model = task.module
    model.log_scale.requires_grad_(start["learn_scale"])
    with torch.no_grad():
        model.log_scale.fill_(np.log(start["scale"]))
    model.min_scale, model.max_scale = start["min_scale"], start["max_scale"]
    config = FitConfig(epochs=1, batch_size=8, device="cpu", learning_rate=0.01, weight_decay=0.1)
    fit = Fit(task, config, rows=np.arange(8), lengths=np.ones(8), seed=1)
    decays = [
        group["weight_decay"]
        for group in fit.optimizer.param_groups
        if any(p is model.log_scale for p in group["params"])
    ]
    assert decays == ([0.0] if learned else [])
    fit.run()
    assert fit.total_steps == 1
    assert (abs(1 / model.scale.item() - 0.02) > 1e-5) == learned
    with torch.no_grad():
        for far, near in ((9.0, 0.01), (-9.0, 0.5)):
            model.log_scale.fill_(far)
            model.clamp_scale()
            if learned:
                assert 1 / model.scale.item() == pytest.approx(near)


def test_a_view_that_the_model_has_not_is_refused_before_training(make) -> None:
    objective = OBJECTIVES.parse({"name": "more", "anchor": "ecg"})
    with pytest.raises(
        UserError, match="'more': pairs: no view 'ecg'; there are left, right, text"
    ):
        make(objective)


def test_complete_cases_have_no_mask_and_others_need_an_objective_that_reads_it(make) -> None:
    class Plain(AlignmentConfig):
        def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
            return info_nce(pairs.signals, pairs.texts, pairs.scale, gather=gather)

    with pytest.raises(UserError, match="takes no cases that lack a modality"):
        make(Plain())
    task = make()
    full = {"left": Source(task.sources["left"].signals, np.arange(8))}
    captions = Captions(["rain"] * 8, task.module, settings={})
    plain = AlignTask(task.module, full, captions, Plain())
    rows = np.arange(4)
    assert plain.views(plain.embed(plain.load(rows)), rows).present == {}


def test_names_have_numbers_and_no_name_is_nobody() -> None:
    found = numbered(["b", "", "a", "b", ""])
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 4


# ---- several processes ----------------------------------------------------------------------


def gradients(rank: int, world: int) -> list[Any]:
    towers = torch.nn.ModuleList([torch.nn.Linear(2, 1, bias=False) for _ in range(3)])
    for number, tower in enumerate(towers[: 1 + rank]):  # rank 0 lacks what tower 1 reads
        tower.weight.grad = torch.full((1, 2), 1.0 + rank + 10 * number)
    average_gradients(towers)
    return [p.grad for p in towers.parameters()]


def test_a_parameter_that_one_process_has_not_used_counts_as_zero_there(tmp_path) -> None:
    for first, second, unused in in_processes(2, tmp_path, gradients):
        assert first.tolist() == [[1.5, 1.5]]
        assert second.tolist() == [[6.0, 6.0]]
        assert unused is None
