"""Splits that are drawn: by a seed, stratified by class, of whole groups."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

from multimodal.datasets.class_names import class_order, look_alikes, shown
from multimodal.errors import UserError

ATTEMPTS = 50
UNLABELLED = "(no label)"


def seeded_split(
    uids: Sequence[str],
    labels: Sequence[str] | Sequence[tuple[str, ...]],
    *,
    groups: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> list[str]:
    """N times "train" or "test": stratified by class, reproducible, group-disjoint.

    uids: N distinct names. labels: N class names, or tuples of any number of them (a class that
    cannot stand on both sides is then left in train). groups: N speakers, patients or sources,
    each kept whole ("" = unknown: that recording is a group of its own); None: no groups.
    test_fraction: in (0, 1). Without groups a class of n recordings gets exactly
    ``floor(test_fraction * n + 1/2)`` test recordings, but at least 1 and at most n - 1. With
    groups that number is the target: groups go to the test side while that brings the classes
    closer to it, and every class still gets a recording on both sides.

    The order is that of SHA-256 over the seed and the names, so the split depends on neither the
    file system's order, nor the state of any random generator, nor a library's version.

    Raises UserError naming a class that cannot stand on both sides.
    """
    if labels and not isinstance(labels[0], str):
        several: list[tuple[str, ...]] = [tuple(names) or (UNLABELLED,) for names in labels]
        totals = Counter(name for names in several for name in names)
        members = _members(uids, several, groups)
        width = Counter(name for counts in members.values() for name in counts)
        targets = _targets(totals, test_fraction)
        targets.update({name: 0 for name, number in width.items() if number < 2})
        if not any(targets.values()):
            raise UserError("no class has recordings (of two groups) for both train and test.")
        return _walk(uids, groups, members, totals, targets, seed)
    alone: list[str] = [str(label) for label in labels]
    totals = Counter(alone)
    if groups is None or not any(groups):
        _refuse_narrow_classes({}, totals, grouped=False)
        return _split_alone(uids, alone, totals, test_fraction=test_fraction, seed=seed)
    members = _members(uids, [(label,) for label in alone], groups)
    _refuse_narrow_classes(members, totals, grouped=True)
    return _walk(uids, groups, members, totals, _targets(totals, test_fraction), seed)


def split_for_streams(
    uids: Sequence[str],
    labels: Sequence[str] | Sequence[tuple[str, ...]],
    *,
    groups: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[list[str], str]:
    """``seeded_split``, and "" or why it serves not every class.

    The recordings of such classes are all in train then, or all recordings: a stream may leave
    these classes out, or draw a split of its own.
    """
    try:
        splits = seeded_split(uids, labels, groups=groups, test_fraction=test_fraction, seed=seed)
        return splits, ""
    except UserError as error:
        several = [(names,) if isinstance(names, str) else names for names in labels]
        why = str(error)
    try:
        splits = seeded_split(uids, several, groups=groups, test_fraction=test_fraction, seed=seed)
    except UserError:
        splits = ["train"] * len(uids)
    return splits, why


def _walk(
    uids: Sequence[str],
    groups: Sequence[str] | None,
    members: Mapping[Hashable, Counter[str]],
    totals: Counter[str],
    targets: Mapping[str, int],
    seed: int,
) -> list[str]:
    missing: list[str] = []
    # Whether whole groups can serve every class is a set-splitting problem (NP-hard); a greedy
    # walk in several orders finds a split of any data but deliberately knotted ones.
    for attempt in range(ATTEMPTS):
        order = sorted(members, key=lambda group: _rank(seed, attempt, group))
        chosen, missing = _choose(order, members, totals, targets)
        if not missing:
            keys = _keys(uids, groups)
            return ["test" if key in chosen else "train" for key in keys]
    raise UserError(
        f"class{'es' * (len(missing) > 1)} {', '.join(map(repr, missing))}: found no split of "
        "whole groups that leaves every class a train "
        "and a test recording; add recordings of other groups or name the splits yourself."
    )


def _targets(totals: Counter[str], test_fraction: float) -> dict[str, int]:
    """How many test recordings each class is to have."""
    return {name: min(max(int(test_fraction * n + 0.5), 1), n - 1) for name, n in totals.items()}


def _split_alone(
    uids: Sequence[str],
    labels: Sequence[str],
    totals: Counter[str],
    *,
    test_fraction: float,
    seed: int,
) -> list[str]:
    """What the walk below comes to where every recording is a group of its own, without it."""
    left, splits = _targets(totals, test_fraction), ["train"] * len(uids)
    ranks = [_rank(seed, 0, ("recording", uid)) for uid in uids]
    for row in sorted(range(len(uids)), key=ranks.__getitem__):
        if left[labels[row]]:
            left[labels[row]] -= 1
            splits[row] = "test"
    return splits


def _keys(uids: Sequence[str], groups: Sequence[str] | None) -> list[Hashable]:
    groups = groups if groups is not None else [""] * len(uids)
    return [
        ("group", group) if group else ("recording", uid)
        for uid, group in zip(uids, groups, strict=True)
    ]


def _members(
    uids: Sequence[str], labels: Sequence[tuple[str, ...]], groups: Sequence[str] | None
) -> Mapping[Hashable, Counter[str]]:
    """How many recordings of which class each group has."""
    members: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for key, names in zip(_keys(uids, groups), labels, strict=True):
        for name in names:
            members[key][name] += 1
    return members


def _refuse_narrow_classes(
    members: Mapping[Hashable, Counter[str]], totals: Counter[str], *, grouped: bool
) -> None:
    width = Counter(name for counts in members.values() for name in counts)
    lonely = [name for name in class_order(list(totals)) if totals[name] < 2]
    narrow = [n for n in class_order(list(totals)) if grouped and n not in lonely and width[n] < 2]
    problems = []
    if lonely:
        alike = [shown(group) for group in look_alikes(totals) if set(lonely) & set(group)]
        hint = f" It looks like another one ({alike[0]}): give both one name." if alike else ""
        problems.append(
            f"{_named(lonely)} only one recording: none is left for the test split; "
            f"add recordings or remove the class.{hint}"
        )
    if narrow:
        problems.append(
            f"{_named(narrow)} recordings of one group only, so it cannot stand in train "
            "and test; add recordings of another group or remove the class."
        )
    if problems:
        raise UserError("\n".join(problems))


def _named(names: Sequence[str]) -> str:
    """The classes of a message that goes on about one of them."""
    if len(names) == 1:
        return f"class {names[0]!r} has"
    return f"{len(names)} classes ({', '.join(map(repr, names))}): each has"


def _rank(seed: int, attempt: int, group: Hashable) -> bytes:
    return hashlib.sha256(repr((seed, attempt, group)).encode()).digest()


def _choose(
    order: Sequence[Hashable],
    members: Mapping[Hashable, Counter[str]],
    totals: Counter[str],
    targets: Mapping[str, int],
) -> tuple[set[Hashable], list[str]]:
    """Groups for the test side, and the classes that got no test recording."""
    taken: Counter[str] = Counter()
    chosen: set[Hashable] = set()

    def leaves_train(group: Hashable) -> bool:
        own = members[group].items()
        return all(taken[name] + n < totals[name] for name, n in own if name != UNLABELLED)

    def improves(group: Hashable) -> bool:
        change = 0
        for name, n in members[group].items():
            gap = targets[name] - taken[name]
            change += abs(gap - n) - abs(gap)
        return change < 0

    def take(group: Hashable) -> None:
        chosen.add(group)
        taken.update(members[group])

    for group in order:
        if leaves_train(group) and improves(group):
            take(group)
    for group in order:
        # Groups far larger than the target improve nothing, yet a class may need one.
        needed = any(taken[name] == 0 and targets[name] for name in members[group])
        if group not in chosen and needed and leaves_train(group):
            take(group)
    left = [name for name in class_order(list(totals)) if taken[name] == 0 and targets[name]]
    # Recordings without a label are no class that must stand on both sides.
    return chosen, [name for name in left if name != UNLABELLED]
