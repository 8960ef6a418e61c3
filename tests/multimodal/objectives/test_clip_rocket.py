"""The tuned CLIP and what is added to it, against NumPy and where values are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import batch_norm

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.clip_rocket import barlip, clip_rocket, over_views, siamlip, swalip
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.pairs import Pairs
from multimodal.objectives.tools.sinkhorn import sinkhorn
from tests.multimodal.objectives.checks import (
    assert_half_precision,
    assert_is_oracle,
    assert_masks,
    assert_tiles,
    pair,
)
from tests.multimodal.objectives.oracles import numpy_unit

MAX: Any = {"total": "max"}
TEN = torch.tensor(10.0, dtype=torch.float64)


def views(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    made = [pair(7, 3, seed=seed + k) for k in range(count)]
    return [(a.requires_grad_(), b.requires_grad_()) for a, b in made]


def smoothed(logits: np.ndarray, share: float) -> float:
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(np.mean((1 - share) * -np.diag(log_p) - share * log_p.mean(1)))


def test_clip_rocket_is_its_sum_written_out() -> None:
    first, local = views(1, 0)[0], views(2, 5)
    loss = clip_rocket(first, TEN, local, TEN / 2, smoothing=0.1)

    def both(x: Tensor, y: Tensor, scale: float, share: float) -> float:
        logits = scale * numpy_unit(x.detach().numpy()) @ numpy_unit(y.detach().numpy()).T
        return (smoothed(logits, share) + smoothed(logits.T, share)) / 2

    near = [both(a, b, 5, 0.1) for a, _ in local for _, b in local]
    expected = (both(*first, 10, 0.0) + 2 * np.mean(near)) / 3
    assert loss.value.item() == pytest.approx(expected)
    doubled = clip_rocket(first, TEN, local, TEN / 2, total="sum")
    torch.testing.assert_close(doubled.value, 2 * loss.value)
    grads = torch.autograd.grad(loss.value, [x for p in (first, *local) for x in p])
    assert all(g.abs().max() > 0 for g in grads)
    plain = clip_rocket(first, TEN, [], TEN)
    assert torch.equal(plain.value, info_nce(*first, TEN).value)
    tiled = clip_rocket(first, TEN, local, TEN / 2, smoothing=0.1, tile=2)
    torch.testing.assert_close(tiled.value, loss.value)


def barlip_oracle(a: np.ndarray, b: np.ndarray) -> float:
    n, d = a.shape
    x, y = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b))
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = sum(x[k, i] * y[k, j] for k in range(n)) / n
            total += (c - 1) ** 2 if i == j else 5e-3 * c**2
    return total


def test_barlip_is_the_oracle() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7, 4))
    assert_is_oracle(lambda a, b: barlip(a, b).value, barlip_oracle, [a, b])


def test_barlip_is_that_of_batch_normalised_heads() -> None:
    a, b = pair(9, 4)
    x, y = (batch_norm(z, None, None, training=True) for z in (a, b))
    c = x.T @ y / 9
    off = c - torch.diag(c.diagonal())
    expected = (c.diagonal() - 1).square().sum() + 0.3 * off.square().sum()
    torch.testing.assert_close(barlip(a, b, off_diagonal=0.3).value, expected)
    torch.testing.assert_close(
        barlip(3 * a + 1, b - 2, off_diagonal=0.3).value, expected, rtol=1e-4, atol=1e-4
    )


def test_barlip_of_white_noise_and_of_one_pair() -> None:
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = barlip(x, x).terms
    assert terms["correlation"].item() == pytest.approx(1, abs=1e-4)
    assert terms["redundancy"].item() == pytest.approx(1 / 4000, rel=0.5)  # O(1/sqrt N), squared
    white = torch.linalg.qr(x - x.mean(0))[0] * 4000**0.5
    assert barlip(white, white).value.item() == pytest.approx(0, abs=1e-8)
    one = barlip(x[:1], x[:1].clone().requires_grad_())
    assert one.value == 8
    flat = torch.ones(5, 3, requires_grad=True)
    barlip(flat, x[:5, :3].float()).value.backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_what_holds_of_objectives() -> None:
    def of_config(a: Tensor, b: Tensor, present: Any = None, tile: int | None = None) -> Loss:
        config: Any = OBJECTIVES.parse({"name": "barlip", "tile": tile})
        ids, scale = torch.arange(len(a)), torch.tensor(100.0)
        given = Pairs(a, b, b, ids, scale, torch.tensor(0.0), present)
        return config.loss(given, gather=False)

    def attraction(a: Tensor, b: Tensor, **options: Any) -> Loss:
        return siamlip((a, a), (b, b), **options)

    for function in (of_config, attraction):
        assert_masks(function)
        assert_half_precision(function)
    assert_masks(barlip)
    assert_tiles(of_config)
    a, b = pair()
    expected = info_nce(a, b, torch.tensor(100.0)).value + 0.025 * barlip(a, b).value
    torch.testing.assert_close(of_config(a, b).value, expected)


def test_siamlip_against_plain_sums_and_its_bounds() -> None:
    p, q = np.random.default_rng(0).normal(size=(2, 6, 4))
    v, w = (torch.tensor(x) for x in np.random.default_rng(1).normal(size=(2, 6, 4)))

    def oracle(p: np.ndarray, q: np.ndarray) -> float:
        cosines = [(numpy_unit(x) * numpy_unit(y.numpy())).sum(1) for x, y in ((p, w), (q, v))]
        return float(2 - np.mean(cosines[0]) - np.mean(cosines[1]))

    assert_is_oracle(lambda p, q: siamlip((p, v), (q, w)).value, oracle, [p, q])
    for target in (v, w):
        target.requires_grad_()
    loss = siamlip((torch.tensor(p), v), (torch.tensor(q), w))
    assert not loss.value.requires_grad  # nothing reaches the targets
    a, _ = pair()
    assert siamlip((a, a), (3 * a, a)).value.item() == pytest.approx(0, abs=1e-12)
    assert siamlip((a, a), (-a, -a)).value.item() == pytest.approx(4)


def test_means_over_all_combinations_of_views() -> None:
    first, local = views(1, 0)[0], views(2, 5)
    expected = [barlip(*first).value, *(barlip(a, b).value for a, _ in local for _, b in local)]
    torch.testing.assert_close(over_views(barlip, first, local), torch.stack(expected).mean())


def balanced(logits: np.ndarray, rounds: int) -> np.ndarray:
    q = np.exp(logits)
    for _ in range(rounds):
        q = q / q.sum(0, keepdims=True)
        q = q / q.sum(1, keepdims=True)
    return q


def test_sinkhorn() -> None:
    a, b = (x / x.norm(dim=1, keepdim=True) for x in pair(64, 128))
    logits = a @ b.T / 0.05
    for rounds in (1, 3):
        expected = balanced(logits.numpy(), rounds)
        np.testing.assert_allclose(sinkhorn(logits, rounds=rounds), expected, rtol=1e-9)
    found = sinkhorn(logits)
    torch.testing.assert_close(found.sum(1), torch.ones(64, dtype=torch.float64))
    off = (found.sum(0) - 1).abs().max()
    assert 1e-6 < off < 0.05
    torch.testing.assert_close(
        sinkhorn(logits, rounds=2000).sum(0), torch.ones(64, dtype=torch.float64)
    )
    assert sinkhorn(1e4 * logits.float()).isfinite().all()
    with pytest.raises(ValueError, match="rounds: 0; give at least 1"):
        sinkhorn(logits, rounds=0)


def test_swalip_is_its_sum_written_out() -> None:
    arrays = list(np.random.default_rng(0).normal(size=(4, 5, 3)))
    frozen = [numpy_unit(x) for x in arrays]

    def oracle(a0, b0, a1, b1) -> float:
        a, b = [numpy_unit(a0), numpy_unit(a1)], [numpy_unit(b0), numpy_unit(b1)]
        still = ([frozen[0], frozen[2]], [frozen[1], frozen[3]])
        total = 0.0
        for one, other, (x, y) in ((a, b, still), (b, a, still[::-1])):
            for k in range(2):
                for n in range(2):
                    q = balanced(x[1 - k] @ y[1 - n].T / 0.05, 3)  # targets have no gradient
                    s = 4 * one[k] @ other[n].T
                    log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
                    total -= np.mean((q * log_p).sum(1)) / 8
        return total

    scale = torch.tensor(4.0, dtype=torch.float64)
    assert_is_oracle(
        lambda a0, b0, a1, b1: swalip([(a0, b0), (a1, b1)], scale).value, oracle, arrays
    )
    (a, b), twin = pair(dtype=torch.float16), pair(seed=1, dtype=torch.float16)
    assert swalip([(a, b), (twin[0], twin[1])], torch.tensor(100.0)).value.isfinite()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: barlip(a, b[:3]), r"a: shape \(7, 5\), b: shape \(3, 5\)"),
        (lambda a, b: siamlip((a, b), (a, b[:3])), r"predictions: shape \(7, 5\), targets: shape"),
        (lambda a, b: swalip([(a, b)], TEN), "local: 1 pairs of augmented views; give exactly 2"),
        (lambda a, b: swalip([(a, b)] * 2, TEN, epsilon=0.0), "epsilon: 0.0; give a number"),
        (lambda a, b: clip_rocket((a, b), TEN, [], TEN, **MAX), "total: 'max'; choose one"),
        (lambda a, b: clip_rocket((a, b), TEN, [(a, b)], TEN, smoothing=2.0), "smoothing: 2.0"),
    ],
)
def test_bad_input_is_named(call: Callable[..., Loss], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*pair())


def test_settings() -> None:
    config = OBJECTIVES.parse({"name": "barlip", "weight": 0.1})
    assert config.row_name == "barlip (reconstruction), weight=0.1"
    assert OBJECTIVES.parse(config.dump()) == config
    assert not {"local_views", "local_width", "smoothing"} & config.dump().keys()
    with pytest.raises(ValidationError, match=r"local_views=0: there is nothing to set smoothing"):
        OBJECTIVES.parse({"name": "clip_rocket", "local_views": 0, "smoothing": 0.2})


@pytest.mark.parametrize("name", ["clip_rocket", "barlip", "siamlip", "byolip", "swalip"])
def test_objectives_with_heads_are_their_functions(name: str) -> None:
    config: Any = OBJECTIVES.parse({"name": name, "local_views": 2, "local_width": 4, "scale": 5.0})
    torch.manual_seed(0)
    own = config.own({"speech": 6, "text": 3}).double()
    a, b = pair(7, 5)
    seen = torch.randn(7, 3, 6, dtype=torch.float64)
    said = torch.randn(7, 3, dtype=torch.float64)
    old = (seen.flip(0), said.flip(0))
    kept: Any = {"features": seen, "own": own, "name": "speech", "averaged": old}
    given = Pairs(a, b, said, torch.arange(7), TEN, TEN, **kept)
    found = config.loss(given, gather=False)
    speech, text = own.local["speech"].weight, own.local["text"].weight
    local = [(seen[:, k] @ speech.T, said @ text.T) for k in (1, 2)]
    share = 0.0 if name == "swalip" else 0.1
    expected = clip_rocket((a, b), TEN, local, own.scale, smoothing=share).value
    assert own.scale.item() == pytest.approx(5.0)
    if name == "swalip":
        expected = expected + 0.2 * swalip(local, own.scale).value
    elif name != "clip_rocket":
        x = [own.projector["speech"](seen[:, k]) for k in range(3)]
        y = own.projector["text"](said)
        if name == "barlip":
            terms = [barlip(x[k], y).value for k in (0, 1, 1, 2, 2)]
            expected = expected + 0.025 * torch.stack(terms).mean()
        else:
            q = own.predictor["text"](y)
            v, w = (x, y) if name == "siamlip" else ([z.flip(0) for z in x], y.flip(0))
            sides = [(own.predictor["speech"](p), t) for p, t in zip(x, v, strict=True)]
            terms = [siamlip(sides[k], (q, w)).value for k in (0, 1, 1, 2, 2)]
            expected = expected + torch.stack(terms).mean()
    torch.testing.assert_close(found.value, expected)


def test_swalip_has_no_tiles() -> None:
    with pytest.raises(ValueError, match="tile=4: balanced assignments need the matrix of all"):
        OBJECTIVES.config("swalip")(tile=4)  # pyright: ignore[reportCallIssue]
