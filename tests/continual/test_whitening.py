"""Whitened heads: the closed form, what is counted, who keeps which transform, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from continual.evaluation import predict
from continual.learner import LEARNERS
from continual.online import OnlineStrategy
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.whitening import Whitening
from multimodal.errors import UserError

WIDTH, COUNT, EPS = 6, 80, 0.02
WHITE = {"whiten": True}
ONLINE: list[dict[str, Any]] = [
    {"name": "linear_probe"},
    {"name": "finetune"},
    {"name": "er", "memory_size": 6},
    {"name": "er_ace", "memory_size": 6},
    {"name": "derpp", "memory_size": 6},
    {"name": "ewcpp", "memory_size": 6, "refresh": 10},
    {"name": "lwf", "teacher": "ema"},
    {"name": "rm", "memory_size": 6, "memory_epochs": 3},
    {"name": "clib", "memory_size": 6},
    {"name": "l2p"},
    {"name": "dual_prompt"},
    {"name": "mvp"},
    {"name": "mvp_r", "memory_size": 6},
]
EPOCHS = ["finetune", "linear_probe", "replay", "cumulative", "joint", "er", "er_ace"]


def sample(seed: int = 0, count: int = COUNT) -> Tensor:
    """Far from the origin, variances from 1e-4 to 1e4, and directions that are not the axes."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    return torch.from_numpy(
        rng.normal(size=(count, WIDTH)) * np.geomspace(1e-2, 1e2, WIDTH) @ turn + 50
    )


def root(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and (C + eps u I)^-1/2 of rows, by a singular value decomposition of the rows."""
    middle = x.mean(0)
    _, s, v = np.linalg.svd(x - middle, full_matrices=True)
    variances = np.zeros(x.shape[1])
    variances[: len(s)] = s**2 / len(x)
    return middle, v.T @ np.diag((variances + eps * variances.mean()) ** -0.5) @ v


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 25), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_outputs_are_those_of_the_closed_form(sizes: list[int], seed: int) -> None:
    """For any batches, of the recordings counted when the transform was last made."""
    x, white = sample(seed, sum(sizes)), Whitening(WIDTH, eps=EPS)
    for part in x.split(sizes):
        white.update(part)
    used, seen = int(white.used), x.numpy()
    assert int(white.count) == len(x)
    assert len(x) < 1.05 * used
    np.testing.assert_allclose(white.mean, seen.mean(0), rtol=1e-12)
    scatter = (seen - seen.mean(0)).T @ (seen - seen.mean(0))
    np.testing.assert_allclose(white.scatter, scatter, rtol=0, atol=1e-9 * abs(scatter).max())
    if used > 1:
        middle, matrix = root(seen[:used], EPS)
        np.testing.assert_allclose(white.matrix, matrix, rtol=0, atol=1e-4 * abs(matrix).max())
        np.testing.assert_allclose(white(x.float()), (seen - middle) @ matrix, atol=2e-3)


def test_outputs_have_mean_zero_and_the_covariance_that_is_promised() -> None:
    x, white = sample(), Whitening(WIDTH, eps=EPS)
    white.update(x)
    out = white(x.float()).double().numpy()
    covariance = np.cov(x.numpy().T, bias=True)
    floor = EPS * np.trace(covariance) / WIDTH
    expected = covariance @ np.linalg.inv(covariance + floor * np.eye(WIDTH))
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(out.T, bias=True), expected, atol=1e-4)
    assert np.linalg.eigvalsh(expected)[-1] > 0.99
    assert np.linalg.cond(covariance) > 1e5


def test_sums_do_not_lose_digits_far_from_the_origin() -> None:
    x = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near, far = Whitening(3), Whitening(3)
    for part in x.split(7):
        near.update(part)
        far.update(part + 1e6)
    torch.testing.assert_close(far.scatter, near.scatter, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_embeddings_does_not_matter(scale: float) -> None:
    outputs = []
    for factor in (1.0, scale):
        white = Whitening(WIDTH)
        white.update(factor * sample())
        outputs.append(white(factor * sample(1).float()))
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3)


def test_the_first_recordings_are_no_trap() -> None:
    white, x = Whitening(WIDTH), sample()
    assert torch.equal(white(x.float()), x.float())
    white.update(x[:0])
    white.update(x[:1])
    assert torch.equal(white(x[:1].float()).round(decimals=3), torch.zeros(1, WIDTH))
    same = Whitening(WIDTH)
    same.update(x[:1].expand(5, -1))
    assert same(x.float()).isfinite().all()
    with pytest.raises(UserError, match="NaN or infinity"):
        white.update(torch.full((1, WIDTH), torch.nan))
    assert int(white.count) == 1


@pytest.fixture(scope="session")
def online(data) -> Any:
    config: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 2, "eval_period": 5})
    return config.build(data.manifest, 3)


def run_online(learner: Any, data: Any, online: Any, **hooks: Any) -> None:
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    strategy = OnlineStrategy(
        learner=learner,
        stream=online,
        gather=data.signals.gather,
        optimizer=torch.optim.Adam(trained, lr=5e-3),
        seed=1,
        train_mb_size=5,
        iterations=3,
        **hooks,
    )
    for task in as_benchmark(online, data.signals.gather).train_stream:
        strategy.train(task, eval_streams=[])


def white_of(learner: Any) -> Whitening:
    assert learner.classifier.whitening is not None
    return learner.classifier.whitening


@pytest.mark.parametrize("fields", ONLINE, ids=lambda f: f["name"])
def test_every_recording_of_an_online_stream_counts_once(
    fields, data, online, make_learner
) -> None:
    """Not its replays, its other steps, its reviews, and not what it is tested on."""
    learner = make_learner(**fields, head=WHITE)
    rows = np.concatenate([e.train for e in online.experiences])
    counted: list[int] = []

    def look(strategy: Any) -> None:
        predict(learner, strategy.batches(online.experiences[-1].test))
        counted.append(int(white_of(learner).count))

    run_online(learner, data, online, after_step=look)
    white = white_of(learner)
    assert counted[0] == 5
    assert int(white.count) == len(rows)
    assert sorted(counted) == counted
    if not hasattr(learner.model, "prompted"):  # prompts change what is counted while it is met
        x = learner.classifier.embed(data.signals.gather(torch.as_tensor(rows))).double()
        torch.testing.assert_close(white.mean, x.mean(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            white.scatter / len(rows), torch.cov(x.T, correction=0), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", EPOCHS)
def test_every_recording_of_experiences_counts_once(
    name, data, stream, make_learner, make_strategy
) -> None:
    """Not in later epochs, nor where a later experience has it again."""
    learner = make_learner(name, head=WHITE)
    strategy, benchmark = make_strategy(learner, train_epochs=2)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    rows = np.concatenate([e.train for e in stream.experiences])
    x = learner.classifier.embed(data.signals.gather(torch.as_tensor(rows))).double()
    white = white_of(learner)
    assert int(white.count) == len(rows)
    torch.testing.assert_close(white.mean, x.mean(0), rtol=1e-5, atol=1e-5)


def test_a_batch_without_a_new_recording_counts_none(data, stream, make_learner) -> None:
    """As cumulative training meets them; encoders cannot embed no recordings."""
    learner = make_learner("cumulative", head=WHITE)
    batch = data.signals.gather(torch.as_tensor(stream.experiences[0].train[:3]))
    learner.arrive(batch)
    learner.arrive(batch.where(torch.zeros(3, dtype=torch.bool)))
    assert int(white_of(learner).count) == 3


def test_a_prompt_method_counts_what_its_head_reads(data, online, make_learner) -> None:
    for name in ("l2p", "dual_prompt", "mvp"):
        learner = make_learner(name, head=WHITE)
        batch = data.signals.gather(torch.as_tensor(online.experiences[0].train[:5]))
        learner.model.eval()
        inside: list[Tensor] = []
        learner.classifier.head.register_forward_pre_hook(
            lambda _, args, inside=inside: inside.append(args[0].detach())
        )
        with torch.no_grad():
            learner.model(batch)
        raw = inside.pop()
        learner.arrive(batch)
        torch.testing.assert_close(
            white_of(learner).mean, raw.double().mean(0), rtol=1e-5, atol=1e-5
        )
        with torch.no_grad():
            learner.model(batch)
        torch.testing.assert_close(inside.pop(), white_of(learner)(raw))


@pytest.mark.parametrize("teacher", [5, "ema"])
def test_a_teacher_keeps_the_whitening_of_its_time(teacher, data, online, make_learner) -> None:
    """Its answers stay the same when the transform moves and the head does not."""
    learner = make_learner("lwf", teacher=teacher, head=WHITE)
    parts = torch.as_tensor(online.experiences[0].train[:20]).split(5)
    first, second, *_ = (data.signals.gather(rows) for rows in parts)
    learner.model.eval()
    learner.meet(first.indices, first.labels)
    learner.arrive(first)
    with torch.no_grad():
        expected = learner.model(second)
    learner.after_step()
    learner.observe(first)
    assert learner.old
    learner.arrive(second)
    with torch.no_grad():
        now = learner.model(second)
        past = torch.func.functional_call(learner.classifier, learner.old, (second,))
    assert not torch.allclose(now, expected, atol=1e-2)
    torch.testing.assert_close(past, expected, rtol=1e-3, atol=1e-3)


def test_a_bad_condition_no_longer_decides_what_a_head_learns() -> None:
    """Two classes apart in a direction of little variance: the same steps, far more learned."""
    generator = torch.Generator().manual_seed(0)
    x = 30 * torch.randn(400, 8, generator=generator) @ torch.diag(torch.tensor([1.0] * 7 + [0.03]))
    y = (torch.rand(400, generator=generator) > 0.5).long()
    x[:, 7] += 4 * y
    found = []
    for white in (None, Whitening(8, eps=1e-4)):
        head = torch.nn.Linear(8, 2)
        optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
        for rows in torch.arange(400).split(10):
            if white is not None:
                white.update(x[rows])
            for _ in range(3):
                optimizer.zero_grad()
                inputs = x[rows] if white is None else white(x[rows])
                torch.nn.functional.cross_entropy(head(inputs), y[rows]).backward()
                optimizer.step()
        answers = head(x if white is None else white(x)).argmax(1)
        found.append(float((answers == y).float().mean()))
    assert found[1] > found[0] + 0.1
    assert found[1] > 0.93


@pytest.mark.parametrize("name", ["finetune", "er", "lwf", "replay"])
def test_a_trained_encoder_is_refused(name, make_learner) -> None:
    fields = {"train_encoder": True} if name == "finetune" else {}
    learner = make_learner(name, **fields)  # without a head: the encoder is left trainable
    with pytest.raises(UserError, match=r"head\.whiten: .*encoder\.train=none"):
        learner.classifier.whiten(1e-2)


@pytest.mark.parametrize("name", ["majority", "slda", "rls", "cwcl"])
def test_learners_without_a_softmax_head_are_refused(name) -> None:
    with pytest.raises(ValidationError, match=f"learner '{name}' has no softmax head to whiten"):
        LEARNERS.parse({"name": name, "head": WHITE})


def test_a_plain_head_is_in_no_record() -> None:
    """So that runs from before there was a choice keep their hash; and each choice has one name."""
    plain = LEARNERS.parse("er")
    assert "head" not in plain.dump()
    assert LEARNERS.parse({"name": "er", "head": {"whiten": False}}) == plain
    white = LEARNERS.parse({"name": "er", "head": WHITE})
    assert white.dump()["head"] == {"whiten": True, "eps": 1e-2}
    assert LEARNERS.parse(white.dump()) == white
    with pytest.raises(ValidationError, match=r"eps=0\.1 is of whitening; set whiten: true"):
        LEARNERS.parse({"name": "er", "head": {"eps": 0.1}})
    with pytest.raises(ValidationError, match="greater than 0"):
        LEARNERS.parse({"name": "er", "head": {"whiten": True, "eps": 0}})
