"""What an objective keeps of each sample between its visits: tables of numbers by stable number.

A sample's number is that of its recording or case in the data, so it is the same in every epoch,
in a rehearsal memory, and after a run went on from a checkpoint, of which the tables are a part.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor


class SampleTables:
    """Of each name a table (S, width) float32, NaN in rows of samples that were never written.

    They grow with the highest number that is written.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.tables: dict[str, Tensor] = {}

    def read(self, name: str, numbers: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """A copy; NaN for samples that were never written."""
        table = self.tables.get(name)
        if table is None or not len(table):
            return torch.full((len(numbers), self.width), torch.nan, device=numbers.device)
        table = self.tables[name] = table.to(numbers.device)
        found = table[numbers.clamp(max=len(table) - 1)]
        return found.masked_fill((numbers >= len(table))[:, None], torch.nan)

    def write(
        self, name: str, numbers: Int[Tensor, " batch"], values: Float[Tensor, "batch width"]
    ) -> None:
        """Of a sample that stands there several times the mean is kept."""
        if not len(numbers):
            return
        distinct, owner = numbers.unique(return_inverse=True)
        values = values.detach().float()
        sums = values.new_zeros(len(distinct), self.width).index_add_(0, owner, values)
        table = self._grown(name, int(distinct[-1]) + 1, values)
        table[distinct] = sums / owner.bincount()[:, None]

    def _grown(self, name: str, size: int, like: Tensor) -> Tensor:
        known = self.tables.get(name, like.new_empty(0, self.width)).to(like.device)
        if len(known) < size:
            more = max(size, 2 * len(known)) - len(known)
            known = torch.cat([known, known.new_full((more, self.width), torch.nan)])
        self.tables[name] = known
        return known

    def state_dict(self) -> dict[str, Tensor]:
        return {name: table.clone() for name, table in self.tables.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """ValueError: tables of another width."""
        for name, table in state.items():
            if table.dim() != 2 or table.shape[1] != self.width:
                raise ValueError(
                    f"table {name!r}: shape {tuple(table.shape)}; this objective keeps "
                    f"{self.width} numbers of each sample."
                )
        self.tables = {name: table.clone() for name, table in state.items()}
