"""BPE-dropout: words fall into other pieces each time they are read, in training only.

Provilkov et al., "BPE-Dropout: Simple and Effective Subword Regularization", ACL 2020, algorithm 1:
before every merge each merge that is possible is left out with probability ``ratio``, drawn anew;
of the others that of the highest priority is made, its leftmost place first; a word is done where
none is left. With ratio 0 this is BPE itself. All words of a batch are merged side by side, and the
draws are torch's, so a seed gives them back (those of the library ``tokenizers`` have none).
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

NOTHING = -1


def merge_words(
    words: Int[Tensor, "words longest"],
    pairs: Int[Tensor, "merges 2"],
    products: Int[Tensor, " merges"],
    ratio: float,
    *,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "words longest"]:
    """Symbols of words, -1 beyond their ends -> their pieces, in the same form.

    pairs: left and right of each merge, the first has the highest priority. products: what each
    makes. generator: None is torch's own, as for dropout.
    """
    if not len(pairs):
        return words
    done, left = words.clone(), torch.arange(len(words))
    base = 1 + int(max(words.max(), products.max(), pairs.max()))
    keys, order = (pairs[:, 0] * base + pairs[:, 1]).sort()
    places = torch.arange(words.shape[1])
    while len(left):
        symbols_WL = done[left]
        ranks_WL = _ranks(symbols_WL, keys, order, base)
        if ratio:
            drawn_WL = torch.rand(ranks_WL.shape, generator=generator, dtype=torch.float64)
            ranks_WL = ranks_WL.masked_fill(drawn_WL < ratio, len(pairs))
        best_W, where_W = ranks_WL.min(1)  # the leftmost of equal ones
        more_W = best_W < len(pairs)
        left, symbols_WL = left[more_W], symbols_WL[more_W]
        where_W1, best_W = where_W[more_W][:, None], best_W[more_W]
        ended_WL = torch.nn.functional.pad(symbols_WL, (0, 1), value=NOTHING)
        symbols_WL = ended_WL.gather(1, places + (places > where_W1).long())
        done[left] = symbols_WL.scatter(1, where_W1, products[best_W][:, None])
    return done


def _ranks(symbols_WL: Tensor, keys: Tensor, order: Tensor, base: int) -> Tensor:
    """(W, L) rank of the merge of each symbol with the next, the number of merges where none is."""
    right_WL = torch.nn.functional.pad(symbols_WL[:, 1:], (0, 1), value=NOTHING)
    wanted_WL = symbols_WL * base + right_WL
    found_WL = torch.searchsorted(keys, wanted_WL).clamp(max=len(keys) - 1)
    known_WL = (keys[found_WL] == wanted_WL) & (right_WL != NOTHING)
    return torch.where(known_WL, order[found_WL], len(keys))
