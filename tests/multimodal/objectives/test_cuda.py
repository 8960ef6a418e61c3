"""On a GPU: the tiled forms, their memory, and mixed-precision training. Skipped without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from multimodal.objectives.contrastive import info_nce, siglip
from multimodal.objectives.cwcl import cwcl
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit
from tests.multimodal.training.toy_fit import Toy, weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
FORMS = {
    "clip": lambda a, b, s, tile: info_nce(a, b, s, tile=tile),
    "siglip": lambda a, b, s, tile: siglip(
        a, b, s, torch.tensor(-10.0, device=a.device), tile=tile
    ),
    "cwcl": lambda a, b, s, tile: cwcl(a, b.detach(), s, tile=tile),
}


def outcome(name: str, device: str, tile: int | None, count: int = 700) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(count, 64, generator=random).to(device).requires_grad_() for _ in "ab")
    scale = torch.tensor(20.0, device=device, requires_grad=True)
    loss = FORMS[name](a, b, scale, tile).value
    loss.backward()
    return [x.detach().cpu() for x in (loss, a.grad, b.grad, scale.grad) if x is not None]


@pytest.mark.parametrize("name", list(FORMS))
@pytest.mark.parametrize("tile", [None, 128, 1000])
def test_equals_the_processor(name: str, tile: int | None) -> None:
    for ours, theirs in zip(outcome(name, "cuda", tile), outcome(name, "cpu", None), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


def test_memory_of_a_large_batch_stays_small() -> None:
    a, b = (torch.randn(16384, 64, device="cuda", requires_grad=True) for _ in "ab")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    info_nce(a, b, torch.tensor(20.0, device="cuda"), tile=1024).value.backward()
    assert torch.cuda.max_memory_allocated() - before < 16384**2 * 4 / 8


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_training_in_every_precision(precision: str, micro_batch: int | None) -> None:
    found = []
    for device, kind in (("cpu", "fp32"), ("cuda", precision)):
        config = FitConfig(
            epochs=3,
            batch_size=8,
            learning_rate=0.01,
            device=device,  # pyright: ignore[reportArgumentType]
            precision=kind,  # pyright: ignore[reportArgumentType]
            micro_batch=micro_batch,
        )
        rows = np.arange(22)
        fit = Fit(Toy(), config, rows=rows, lengths=1 + rows % 5, seed=1)
        assert fit.device.type == device
        fit.run()
        found.append(weights(fit).cpu())
    tolerance = 1e-4 if precision == "fp32" else 0.1
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=tolerance)
