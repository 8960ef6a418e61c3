"""The projection head of MoRE: from an encoder's embedding into the shared space.

Thapa et al., arXiv:2410.16239: linear, norm, ReLU, linear, norm, no biases; 689,920 parameters from
768 to 128. Embeddings are normalised by the objective.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from multimodal.errors import UserError


class ProjectionHead(nn.Module):
    """(N, in_dim) -> (N, out).

    hidden: None: in_dim. norm: "batch", as published, needs two recordings a batch in training and
    follows those of the moment, which a stream changes; "layer" does neither.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: int | None = None,
        out: int = 128,
        *,
        norm: Literal["batch", "layer"] = "layer",
    ) -> None:
        super().__init__()
        hidden = hidden or in_dim
        made = nn.BatchNorm1d if norm == "batch" else nn.LayerNorm
        self.first, self.second = nn.Linear(in_dim, hidden, bias=False), made(hidden)
        self.third, self.last = nn.Linear(hidden, out, bias=False), made(out)
        self.width = out

    def forward(self, pooled: Tensor) -> Tensor:
        """UserError for a batch of one where that has no norm."""
        if self.training and len(pooled) < 2 and isinstance(self.last, nn.BatchNorm1d):
            raise UserError(
                "projection=batch cannot train on a batch that has one recording of a modality; "
                "raise the batch size or set projection=layer."
            )
        return self.last(self.third(self.second(self.first(pooled)).relu()))
