"""Contrastive objectives, tiled against naive: time and peak memory of forward and backward.

Naive is the textbook form in plain PyTorch (whole matrices, ``cross_entropy``, no diagnostics), as
in most public training code; tiled is ours with ``tile``. Embeddings: random, width 512, float32;
CWCL's frozen side has no gradient. On a GPU, if there is one, batches go on to sizes at which the
naive form does not fit; there only the tiled form is measured.

On a GPU the time is also given over that of two of the matrix products alone. An exact tiled form
takes four: the logits twice, because they are not kept, and a gradient for each side. --tf32 lets a
GPU round the factors of its products to 10 bits; sums are float32 in any case.

Time: both in turn in one process. Memory: medians over processes that do one step each; on a CPU
the growth of the peak resident size (Linux and macOS) after a small first step, on a GPU that of
the peak allocation.

Then every registered objective on the CPU, ``every_objective.py``; with --every these alone.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from benchmarks.runs.machine import hardware, peak_memory, pick_device
from benchmarks.speed.every_objective import all_figures
from benchmarks.speed.harness import median_of_processes, print_times, ratio, time_all
from multimodal.objectives.contrastive import info_nce, siglip
from multimodal.objectives.cwcl import cwcl

WIDTH = 512
TILE = {"cpu": 512, "cuda": 8192}
NAIVE = {"cpu": (1024, 2048, 4096, 8192, 16384), "cuda": (1024, 4096, 8192, 16384, 32768)}
TILED_ONLY = {"cpu": (), "cuda": (65536, 131072)}


def naive_clip(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * normalize(a) @ normalize(b).T
    pairs = torch.arange(len(a), device=a.device)
    return (cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs)) / 2


def naive_siglip(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * normalize(a) @ normalize(b).T + bias
    signs = 2 * torch.eye(len(a), device=a.device) - 1
    return -logsigmoid(signs * logits).sum() / len(a)


def naive_cwcl(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    frozen = normalize(b.detach())
    logits = scale * normalize(a) @ frozen.T
    weights = (1 + frozen @ frozen.T) / 2
    weighted = cross_entropy(logits, weights / weights.sum(1, keepdim=True))
    return weighted + cross_entropy(logits.T, torch.arange(len(a), device=a.device))


Objective = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
NAIVE_FORMS: dict[str, Objective] = {
    "clip": naive_clip,
    "siglip": naive_siglip,
    "cwcl": naive_cwcl,
}


def tiled_form(name: str, tile: int) -> Objective:
    forms: dict[str, Objective] = {
        "clip": lambda a, b, scale, bias: info_nce(a, b, scale, tile=tile).value,
        "siglip": lambda a, b, scale, bias: siglip(a, b, scale, bias, tile=tile).value,
        "cwcl": lambda a, b, scale, bias: cwcl(a, b.detach(), scale, tile=tile).value,
    }
    return forms[name]


def inputs(batch: int, device: torch.device) -> list[Tensor]:
    """Embeddings a and b, scale and bias, the same for every form of one batch size."""
    random = torch.Generator().manual_seed(batch)
    a, b = (torch.randn(batch, WIDTH, generator=random).to(device) for _ in range(2))
    scale, bias = torch.tensor(1 / 0.07, device=device), torch.tensor(-10.0, device=device)
    return [x.requires_grad_() for x in (a, b, scale, bias)]


def step(form: Objective, tensors: list[Tensor]) -> list[Tensor]:
    """The loss and the gradients that exist, complete also on a GPU."""
    value = form(*tensors)
    value.backward()
    if value.is_cuda:
        torch.cuda.synchronize()
    return [value.detach(), *(x.grad for x in tensors if x.grad is not None)]


def form_of(name: str, kind: str, device: torch.device) -> Objective:
    return NAIVE_FORMS[name] if kind == "naive" else tiled_form(name, TILE[device.type])


def peak_mib(name: str, kind: str, batch: int) -> float:
    """What one step adds to the peak of this process, in MiB."""
    device = pick_device("auto")
    form = form_of(name, kind, device)
    step(form, inputs(64, device))  # libraries and kernels are loaded before we measure
    tensors = inputs(batch, device)
    key = "device" if device.type == "cuda" else "process"
    before = peak_memory(device)[key]
    step(form, tensors)
    return (peak_memory(device)[key] - before) / 2**20


def median_peak(name: str, kind: str, batch: int, repeats: int) -> float:
    if torch.cuda.is_available():  # allocations are counted exactly, also in this process
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return peak_mib(name, kind, batch)
    return median_of_processes(peak_mib, name, kind, batch, repeats=repeats)


def two_products(tensors: list[Tensor], tile: int) -> None:
    """The logits, tile by tile, and their product with one side: what no tiled form can avoid."""
    a, b = (x.detach() for x in tensors[:2])
    gradient = torch.zeros_like(a)
    for i in range(0, len(a), tile):
        for j in range(0, len(b), tile):
            logits = a[i : i + tile] @ b[j : j + tile].T
            gradient[i : i + tile].addmm_(logits, b[j : j + tile])
    torch.cuda.synchronize()


def largest_difference(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> float:
    """Of loss and gradients, each relative to the largest entry of theirs."""
    pairs = zip(ours, theirs, strict=True)
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs)


def measure(
    name: str, batch: int, device: torch.device, *, naive: bool, quick: bool
) -> dict[str, float]:
    """Times and peaks of one objective at one batch size; ratios are tiled over naive."""
    kinds = ("tiled", "naive") if naive else ("tiled",)
    forms = {kind: form_of(name, kind, device) for kind in kinds}
    works: dict[str, Callable[[], Callable[[], object]]] = {
        kind: lambda form=form: partial(step, form, inputs(batch, device))
        for kind, form in forms.items()
    }
    if device.type == "cuda":
        works["products"] = lambda: partial(two_products, inputs(batch, device), TILE["cuda"])
    seconds = time_all(works, repeats=2 if quick else 5)
    print_times(f"{name}, batch {batch}", seconds)
    mib = {kind: median_peak(name, kind, batch, 1 if quick else 5) for kind in kinds}
    figures: dict[str, float] = {f"{kind}_mib": round(value, 1) for kind, value in mib.items()}
    figures["tiled_seconds"] = round(statistics.median(seconds["tiled"]), 4)
    if device.type == "cuda":
        figures["over_two_products"] = ratio(seconds, "tiled", "products")
    if naive:
        results = [step(forms[kind], inputs(batch, device)) for kind in kinds]
        figures["memory_ratio"] = round(mib["tiled"] / mib["naive"], 4)
        figures["time_ratio"] = ratio(seconds, "tiled", "naive")
        figures["max_rel_difference"] = float(f"{largest_difference(*results):.2e}")
    return figures


def print_memory(figures: dict[str, dict[str, dict[str, float]]], device: torch.device) -> None:
    processor = hardware(device)["device"]
    title = f"forward and backward, width {WIDTH}, tile {TILE[device.type]}, {processor}"
    keys = ("naive_mib", "tiled_mib", "memory_ratio", "time_ratio", "max_rel_difference")
    table = Table("batch", "objective", *keys, title=title)
    for batch, row in figures.items():
        for name, cell in row.items():
            table.add_row(batch, name, *(str(cell.get(key, "")) for key in keys))
    Console(width=100).print(table)


def main() -> None:
    quick = "--quick" in sys.argv
    if "--every" in sys.argv:
        print(json.dumps(all_figures(quick=quick)))
        return
    device = pick_device("auto")
    if "--tf32" in sys.argv:
        torch.set_float32_matmul_precision("high")
    sizes = [(batch, True) for batch in NAIVE[device.type]]
    sizes = sizes[:2] if quick else sizes + [(batch, False) for batch in TILED_ONLY[device.type]]
    figures = {
        str(batch): {
            name: measure(name, batch, device, naive=naive, quick=quick) for name in NAIVE_FORMS
        }
        for batch, naive in sizes
    }
    print_memory(figures, device)
    print(json.dumps(figures | all_figures(quick=quick)))


if __name__ == "__main__":
    main()
