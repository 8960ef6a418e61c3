"""The fit loop against a bare loop; resume, processes, average, patience and bad numbers."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from pydantic import ValidationError
from torch import nn

from multimodal.errors import UserError
from multimodal.training.batching import epoch_batches
from multimodal.training.config import BatchConfig, FitConfig
from multimodal.training.fit import Fit
from multimodal.training.optim import learning_rate_factor
from tests.multimodal.training.toy_fit import COUNT, Toy, config_of, fit_of, weights

MEANINGS = BatchConfig(meanings=4)  # 2 steps an epoch


def test_equals_a_bare_loop() -> None:
    fit, toy = fit_of(), Toy()
    fit.run()
    matrices = [p for p in toy.module.parameters() if p.ndim >= 2]
    vectors = [p for p in toy.module.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer, step = torch.optim.AdamW(groups, lr=0.01), 0
    for epoch in range(3):
        for batch in epoch_batches(1 + np.arange(COUNT) % 5, 8, seed=1, epoch=epoch):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * learning_rate_factor(step, total=9, warmup=1)
            optimizer.zero_grad()
            toy.loss(toy.embed(toy.load(batch)), batch).value.backward()
            torch.nn.utils.clip_grad_norm_(toy.module.parameters(), 1.0)
            optimizer.step()
            toy.after_step()
            step += 1
    assert fit.total_steps == fit.total == step
    expected = torch.cat([p.detach().reshape(-1) for p in toy.module.parameters()])
    assert torch.equal(weights(fit), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": 3},
        {"gradient_checkpointing": True},
        {"micro_batch": 5, "gradient_checkpointing": True},
    ],
)
def test_savings_of_memory_change_nothing(changes: dict) -> None:
    plain, saving = fit_of(), fit_of(**changes)
    plain.run()
    saving.run()
    torch.testing.assert_close(weights(plain), weights(saving), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stop", "batch"), [(1, None), (3, None), (4, None), (8, None), (3, MEANINGS), (5, MEANINGS)]
)
def test_resumes_exactly_in_the_middle_of_an_epoch(stop: int, batch: BatchConfig | None) -> None:
    class Stopped(Exception):
        pass

    saved: dict[str, Any] = {}

    def after_step(fit: Fit) -> None:
        if fit.total_steps == stop:
            saved.update(copy.deepcopy(fit.state_dict()), random=torch.get_rng_state())
            raise Stopped

    settings = {"ema": 0.9, "validate": lambda: 0.0, "epochs": 3, "batch": batch}
    torch.manual_seed(5)
    whole = fit_of(Toy(0.3), **settings)
    torch.manual_seed(6)
    whole.run()
    torch.manual_seed(5)
    first = fit_of(Toy(0.3), after_step=after_step, **settings)
    torch.manual_seed(6)
    with pytest.raises(Stopped):
        first.run()
    torch.manual_seed(99)
    second = fit_of(Toy(0.3), **settings)
    second.load_state_dict(saved)
    torch.set_rng_state(saved["random"])
    second.run()
    assert second.total_steps == whole.total_steps
    assert torch.equal(weights(second), weights(whole))


def test_the_same_seed_gives_the_same_weights_and_another_other_ones() -> None:
    runs = [fit_of(seed=seed) for seed in (1, 1, 2)]
    for run in runs:
        run.run()
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


def test_patience_stops_and_the_best_weights_stay() -> None:
    scores, seen = iter([0.2, 0.5, 0.4, 0.3, 0.9]), []

    def validate() -> float:
        seen.append(weights(fit))
        return next(scores)

    fit = fit_of(epochs=9, patience=2, validate=validate)
    fit.run()
    assert (fit.epoch, fit.best_score) == (4, 0.5)
    assert torch.equal(weights(fit), seen[1])


def test_the_average_is_what_is_validated_and_kept() -> None:
    seen = []
    fit = fit_of(epochs=1, ema=0.9, validate=lambda: seen.append(weights(fit)) or 1.0)
    fit.run()
    assert torch.equal(weights(fit), seen[0])
    assert fit.average is not None
    plain = fit_of(epochs=1)
    plain.run()
    assert not torch.equal(weights(plain), weights(fit))


def test_bfloat16_trains_about_alike() -> None:
    plain, mixed = fit_of(), fit_of(precision="bf16")
    plain.run()
    mixed.run()
    assert not torch.equal(weights(plain), weights(mixed))
    torch.testing.assert_close(weights(plain), weights(mixed), rtol=0, atol=0.05)


def test_nan_is_named_with_its_recordings() -> None:
    toy = Toy()
    toy.data[0, [4, 7]] = float("nan")
    with pytest.raises(UserError, match=r"loss became nan.*'\d+'.*learning_rate \(0\.01\)"):
        fit_of(toy, log_every=1).run()


def test_bad_settings() -> None:
    with pytest.raises(UserError, match="patience=2 needs validation"):
        fit_of(patience=2)
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        fit_of(precision="fp16")
    with pytest.raises(ValidationError):
        FitConfig(batch_size=0)


def test_how_few_recordings_a_step_may_have_is_the_tasks() -> None:
    one = {"rows": np.arange(1), "lengths": np.ones(1), "seed": 1}
    with pytest.raises(UserError, match=r"1 training recordings .* at least 2 recording\(s\)"):
        Fit(Toy(), config_of(), **one)
    with pytest.raises(UserError, match=r"batch_size=1 .* at least 2 .*; set 2 or more"):
        fit_of(batch_size=1)
    toy = Toy()
    toy.smallest_batch = 1
    assert Fit(toy, config_of(), **one).steps_per_epoch == 1
    assert fit_of(toy, batch_size=7).steps_per_epoch == 4  # 22 recordings, the last alone
    toy.smallest_batch = 2
    assert fit_of(toy, batch_size=7).steps_per_epoch == 3


def _process(rank: int, count: int, folder: str, changes: dict) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29517",
        "ACCELERATE_USE_CPU": "true",
    }
    torch.set_num_threads(1)
    toy = Toy()
    if rank:  # the first process's weights must win
        nn.init.zeros_(toy.module.get_parameter("b.weight"))
    fit = fit_of(toy, **changes)
    fit.run()
    torch.save(weights(fit), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"micro_batch": 3}, marks=pytest.mark.slow),
        {"batch": MEANINGS},
    ],
)
def test_two_processes_train_like_one(tmp_path: Path, changes: dict) -> None:
    multiprocessing.spawn(_process, args=(2, str(tmp_path), changes), nprocs=2)  # pyright: ignore
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(found[0], found[1])
    alone = fit_of(**changes)
    alone.run()
    torch.testing.assert_close(found[0], weights(alone), rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_no_number_names_the_recordings_whatever_stands_beside_each() -> None:
    """Embeddings (N, D), and (N, K, D) of further signals or texts of each recording."""
    fit = object.__new__(Fit)
    fit.loss, fit.total_steps, fit.config = torch.tensor(float("nan")), 6, FitConfig()
    fit.name_of = "recording {}".format
    alone, several = torch.zeros(3, 4), torch.zeros(3, 2, 4)
    several[1, 1, 2] = float("nan")
    with pytest.raises(UserError, match=r"nan at step 7; embeddings with NaN: 'recording 20':"):
        fit._refuse_nan((alone, several), np.array([10, 20, 30]))
