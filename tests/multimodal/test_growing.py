"""A block that grows keeps what it held, whatever it had to do for that."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal import growing
from multimodal.errors import UserError
from multimodal.growing import Growing

PAGE = mmap.PAGESIZE


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3_000), max_size=30), st.sampled_from([(), (1,), (3,), (2, 5)]))
def test_what_was_appended_stays(lengths: list[int], rest: tuple[int, ...]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "LEAST", PAGE)
        block, parts = Growing(torch.float32, rest), [torch.randn(n, *rest) for n in lengths]
        starts = [block.append(part) for part in parts]
    assert starts == [0, *np.cumsum(lengths)][: len(parts)]
    whole = torch.cat([torch.zeros(0, *rest), *parts])
    assert torch.equal(block.steps[: block.used], whole)
    assert block.nbytes == whole.nbytes
    behind = block.steps[block.used :]
    assert len(behind) >= max(lengths, default=0)
    assert not behind.any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_a_view_that_is_still_alive_stays_what_it_was(dtype, monkeypatch) -> None:
    monkeypatch.setattr(growing, "LEAST", PAGE)
    block = Growing(dtype, ())
    block.append(torch.arange(100).to(dtype))
    view = block.steps[:100]
    for _ in range(20):
        block.append(torch.arange(1_000).to(dtype))
    assert torch.equal(view, torch.arange(100).to(dtype))
    assert torch.equal(block.steps[:100], view)


def test_where_a_mapping_cannot_be_moved(monkeypatch) -> None:
    class Fixed:
        """A mapping of a system without ``mremap``."""

        def __init__(self, size: int) -> None:
            self.memory = mmap.mmap(-1, size)

        def resize(self, size: int) -> None:
            raise SystemError("mmap: resizing not available")

        def __len__(self) -> int:
            return len(self.memory)

        def __getitem__(self, key: slice) -> bytes:
            return self.memory[key]

        def __setitem__(self, key: slice, value: bytes) -> None:
            self.memory[key] = value

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(self.memory)

    monkeypatch.setattr(growing, "LEAST", PAGE)
    monkeypatch.setattr(growing, "_mapping", Fixed)
    monkeypatch.setattr(
        growing.np,
        "frombuffer",
        lambda m, dtype: np.ndarray(len(m) // dtype.itemsize, dtype, buffer=m.memory),
    )
    block, parts = Growing(torch.float32, (2,)), [torch.randn(700, 2) for _ in range(9)]
    for part in parts:
        block.append(part)
    assert torch.equal(block.steps[: block.used], torch.cat(parts))


@pytest.mark.parametrize("most", [5, 7, 8, 9, 13, 100])
def test_a_limit_of_addresses_stops_only_what_does_not_fit(monkeypatch, most: int) -> None:
    """As of ulimit -v: what is wished beyond what is needed is not insisted on."""

    class Limited(mmap.mmap):
        def resize(self, size: int) -> None:
            if size > most * PAGE:
                raise OSError(12, "Cannot allocate memory")
            super().resize(size)

    def mapping(size: int) -> mmap.mmap:
        if size > most * PAGE:
            raise OSError(12, "Cannot allocate memory")
        return Limited(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    monkeypatch.setattr(growing, "LEAST", PAGE)
    monkeypatch.setattr(growing, "_mapping", mapping)
    block, page = Growing(torch.uint8, ()), torch.ones(PAGE, dtype=torch.uint8)
    for _ in range(most - 1):
        block.append(page)
    with pytest.raises(UserError, match="of decoded recordings do not fit into memory"):
        block.append(page)
    assert block.used == (most - 1) * PAGE  # one page is spare
    assert bool((block.steps[: block.used] == 1).all())
