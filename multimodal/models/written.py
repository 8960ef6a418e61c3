"""What step-by-step decoding keeps: keys and values, and whose they are.

The W hypotheses of a recording are W queries of one attention: to the encoder's tokens, of which
there is one copy, and to all that was ever written for the recording, of which a mask leaves each
hypothesis its own line. So nothing is copied when hypotheses take each other's place. Legend: see
``decoder``.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST = torch.finfo(torch.float32).min  # of a score: beside any other it counts nothing


class Past:
    """Keys and values of the tokens written so far: (2, N, H, T W, d), W at each step."""

    def __init__(self) -> None:
        self.room: Tensor | None = None
        self.filled = 0

    def grown(self, new_2NHWd: Tensor) -> Tensor:
        """All of them, with those of another step. Room doubles, so that little is copied."""
        start, width = self.filled, new_2NHWd.shape[3]
        self.filled += width
        if self.room is None or self.filled > self.room.shape[3]:
            size = 16 * width if self.room is None else 2 * self.room.shape[3]
            room = new_2NHWd.new_empty(*new_2NHWd.shape[:3], size, new_2NHWd.shape[4])
            if self.room is not None:
                room[:, :, :, :start] = self.room
            self.room = room
        self.room.narrow(3, start, width).copy_(new_2NHWd)
        return self.room.narrow(3, 0, self.filled)

    def keep(self, recordings: Tensor) -> None:
        if self.room is not None:
            self.room = self.room.index_select(1, recordings)


class Written:
    """memory: (2, N, H, L, d) of each layer, of the encoder's tokens. mask: (N, 1, 1, L), or None
    where nothing is padded. past: of each layer. line: (N, W, T) which of the W hypotheses wrote
    the token of each step; None where W is 1. length: T.
    """

    def __init__(self, memory: list[Tensor], mask: Tensor | None) -> None:
        self.memory, self.mask = memory, mask
        self.past = [Past() for _ in memory]
        self.line: Tensor | None = None
        self.length = 0

    def next_step(self, ids_NW: Tensor) -> Tensor | None:
        """The mask (N, 1, W, T W) of each line, these tokens included; None where W is 1."""
        count, width = ids_NW.shape
        self.length += 1
        if width == 1:
            return None
        own = torch.arange(width, device=ids_NW.device).expand(count, width)[..., None]
        self.line = own if self.line is None else torch.cat([self.line, own], dim=2)
        places = self.line + width * torch.arange(self.length, device=ids_NW.device)
        mask = torch.full((count, 1, width, self.length * width), LOWEST, device=ids_NW.device)
        return mask.scatter_(3, places[:, None], 0.0)

    def keep(self, recordings: Tensor | None, parents: Tensor) -> None:
        """recordings: (N',) that stay, None for all. parents: (N', W) the hypotheses of each that
        the next tokens continue.
        """
        line = self.line
        if recordings is not None:
            line = None if line is None else line[recordings]
            self.memory = [m.index_select(1, recordings) for m in self.memory]
            for past in self.past:
                past.keep(recordings)
            if self.mask is not None:
                self.mask = self.mask.index_select(0, recordings)
        if line is not None:
            self.line = line.gather(1, parents[..., None].expand(*parents.shape, self.length))
