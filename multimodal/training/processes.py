"""Several processes of one training: their start, their first weights, their gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from multimodal.objectives.tools.gather import rank, world_size
from multimodal.weights import trained_weights


def start_processes(*, cpu: bool) -> torch.device:
    """Join the processes of ``torchrun`` or ``accelerate launch``, if there are; this one's device.

    cpu: even if there is a GPU.
    """
    from accelerate import PartialState

    wanted = torch.cuda.is_available() and not cpu
    state = PartialState(cpu=not wanted)  # made once in a process: later calls change nothing
    return torch.device("cuda", state.local_process_index) if wanted else torch.device("cpu")


def is_first() -> bool:
    """This process is the one that writes files."""
    return rank() == 0


@torch.no_grad()
def share_weights(module: nn.Module) -> None:
    """Every process starts with the weights of the first."""
    if world_size() > 1:
        for tensor in trained_weights(module).values():
            dist.broadcast(tensor, src=0)


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Replace gradients by their means over the processes, in one transfer.

    A parameter that only some processes have used (a modality that the others' recordings lack)
    counts as 0 in the others; one that none has used stays without.
    """
    if world_size() == 1:
        return
    trained = [p for p in module.parameters() if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], device=trained[0].device).int()
    dist.all_reduce(used)
    trained = [p for p, count in zip(trained, used.tolist(), strict=True) if count]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.reshape(-1) for p in trained if p.grad is not None])
    dist.all_reduce(flat)
    flat /= world_size()
    start = 0
    for parameter in trained:
        assert parameter.grad is not None
        count = parameter.numel()
        parameter.grad.copy_(flat[start : start + count].view_as(parameter))
        start += count
