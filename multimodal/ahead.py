"""Work that threads do ahead of who asks for it: in order, and bounded in bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 8  # results of each worker that may wait
# What may wait before another piece of work begins: an hour of sound weighs as much as thousands
# of words, and nobody is served sooner by many hours that wait.
AHEAD_BYTES = 8 * 2**20

Result = TypeVar("Result")


def done_ahead(
    items: Sequence[int], work: Callable[[int], Result], *, workers: int
) -> Iterator[Result]:
    """``work`` of each item, in the order of the items.

    Beyond ``AHEAD_BYTES`` (the results' ``nbytes``, where they have any) at most one result for
    each of the workers waits; and never more than ``AHEAD`` of each.
    """
    gate, waiting = _Gate(), deque[Future[Result]]()

    def gated(place: int, item: int) -> Result:
        gate.enter(place)
        result = work(item)
        gate.add(_weight(result))
        return result

    def first() -> Result:
        result = waiting.popleft().result()
        gate.take(_weight(result))
        return result

    pool = ThreadPoolExecutor(workers)
    try:
        for place, item in enumerate(items):
            waiting.append(pool.submit(gated, place, item))
            if len(waiting) > AHEAD * workers:
                yield first()
        while waiting:  # taken out one by one: what has been given is not kept
            yield first()
    finally:  # after Ctrl-C, do not do the rest first
        gate.close()
        pool.shutdown(cancel_futures=True)


def _weight(result: object) -> int:
    return int(getattr(result, "nbytes", 0))


class _Gate:
    """Lets work begin while little waits, and always the work that is asked for next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = self._next = 0
        self._closed = False

    def enter(self, place: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or place == self._next or self._bytes < AHEAD_BYTES
            )
            if self._closed:
                raise CancelledError

    def add(self, weight: int) -> None:
        with self._changed:
            self._bytes += weight

    def take(self, weight: int) -> None:
        with self._changed:
            self._bytes -= weight
            self._next += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
