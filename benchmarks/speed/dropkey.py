"""Attention with DropKey against ``scaled_dot_product_attention`` without, one thread.

A training step of the attention alone (forwards and backwards, at MoRE's 197 tokens), as compact
and ViT-B encoders have it; also a naive form, which draws a float an entry and hands over the
boolean mask, and a step of the whole compact encoder. Times are those of the processor
(``process_time``). With ``--cuda``: seconds of the wall on a GPU, in bfloat16, batch 256.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.speed.harness import print_figures, ratio, time_all
from multimodal.encoders.dropkey import dropped_attention
from multimodal.encoders.vit import XrayViT

TOKENS, HEAD, RATIO = 197, 64, 0.2
PLAIN, OURS, NAIVE = "sdpa", "dropkey", "naive"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    shape = (*query.shape[:3], key.shape[2])
    keep = torch.rand(shape, device=query.device) >= RATIO
    return scaled_dot_product_attention(query, key, value, attn_mask=keep)


def dropped(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return dropped_attention(query, key, value, RATIO)


def step(attend: Attend, inputs: list[Tensor], gradient: Tensor) -> Callable[[], None]:
    def work() -> None:
        attend(*inputs).backward(gradient)
        if gradient.is_cuda:
            torch.cuda.synchronize()

    return work


def attention(batch: int, heads: int, device: str, dtype: torch.dtype) -> dict[str, Callable]:
    shape = (batch, heads, TOKENS, HEAD)
    inputs = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(shape, device=device, dtype=dtype)
    forms: dict[str, Attend] = {
        PLAIN: scaled_dot_product_attention,
        OURS: dropped,
        NAIVE: naive,
    }
    work = {name: step(attend, inputs, gradient) for name, attend in forms.items()}
    return {name: lambda w=w: w for name, w in work.items()}


def encoder(batch: int) -> dict[str, Callable]:
    """A step of the compact X-ray encoder with and without."""
    values, lengths = torch.randn(batch, 1, 224, 224), torch.full((batch,), 224)

    def whole(share: float) -> Callable[[], Callable[[], None]]:
        model = XrayViT(dropkey=share).train()
        return lambda: lambda: model(values, lengths).pooled.square().sum().backward()

    return {f"encoder {PLAIN}": whole(0.0), f"encoder {OURS}": whole(RATIO)}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    quick, cuda = "--quick" in sys.argv, "--cuda" in sys.argv
    repeats = 1 if quick else 15
    if cuda:
        work, clock = attention(256, 12, "cuda", torch.bfloat16), time.perf_counter
        seconds = time_all(work, repeats=repeats, clock=clock)
        name = torch.cuda.get_device_name()
        title, figures = f"attention of ViT-B, batch 256, bfloat16, {name}", {}
    else:
        batch = 2 if quick else 16
        work = attention(batch, 3, "cpu", torch.float32)
        seconds = time_all(work, repeats=repeats, clock=time.process_time)
        wide = time_all(
            attention(max(1, batch // 4), 12, "cpu", torch.float32),
            repeats=repeats,
            clock=time.process_time,
        )
        tower = time_all(encoder(batch), repeats=repeats, clock=time.process_time)
        figures = {
            "dropkey_over_sdpa_vit_b": ratio(wide, OURS, PLAIN),
            "encoder_with_over_without": ratio(tower, f"encoder {OURS}", f"encoder {PLAIN}"),
        }
        seconds |= tower
        title = f"attention over {TOKENS} tokens, batch {batch}, one thread (ms a step)"
    first = {
        "dropkey_over_sdpa": ratio(seconds, OURS, PLAIN),
        "naive_over_sdpa": ratio(seconds, NAIVE, PLAIN),
    }
    print_figures(title, seconds, first | figures)


if __name__ == "__main__":
    main()
