"""Quick ways through the splits come to what the slow ones come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from multimodal.datasets.drawn_splits import _choose, _rank
from multimodal.datasets.splits import class_order, seeded_split

rows = st.lists(st.sampled_from("abc"), min_size=2, max_size=40).filter(
    lambda labels: min(Counter(labels).values()) > 1
)


@given(rows, st.floats(0.01, 0.99), st.integers(0, 3), st.booleans())
def test_recordings_of_no_group_are_groups_of_their_own(
    labels: list[str], fraction: float, seed: int, named: bool
) -> None:
    """The walk over groups, each a recording, is the oracle of the split without groups."""
    uids = [f"{i}.wav" for i in range(len(labels))]
    totals = Counter(labels)
    members: dict[Hashable, Counter[str]] = {
        ("recording", u): Counter([c]) for u, c in zip(uids, labels, strict=True)
    }
    order = sorted(members, key=lambda group: _rank(seed, 0, group))
    targets = {c: min(max(int(fraction * n + 0.5), 1), n - 1) for c, n in totals.items()}
    chosen, missing = _choose(order, members, totals, targets)
    assert not missing
    found = seeded_split(
        uids, labels, groups=[""] * len(uids) if named else None, test_fraction=fraction, seed=seed
    )
    assert found == ["test" if ("recording", u) in chosen else "train" for u in uids]
    assert Counter(c for c, s in zip(labels, found, strict=True) if s == "test") == targets


@given(st.lists(st.sampled_from(["10", "9", "-1", "0.25", "a2", "a10", "1"])))
def test_class_order_knows_each_name_once(names: list[str]) -> None:
    found = class_order(names)
    assert sorted(found) == sorted(set(names))
    numbers = [float(name) for name in found if "a" not in name]
    if len(numbers) == len(found):
        assert numbers == sorted(numbers)
    assert class_order([*names, *reversed(names)]) == found
