"""What scenes are composed of, and how: the pool of single events and the composer's settings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence as Columns
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from multimodal.composition.captions import DEEPEST, MARKS
from multimodal.composition.expressions import LETTERS, height, parse, slots
from multimodal.composition.lexicons import LexiconName
from multimodal.composition.relations import Rules
from multimodal.errors import UserError
from multimodal.recordings import printable
from multimodal.registry import Config

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
EXPRESSIONS = {
    "A+B": 0.25,
    "A*B": 0.25,
    "A+B+C": 0.15,
    "(A+B)*C": 0.15,
    "A*(B+C)": 0.15,
    "(A+B)*(C+D)": 0.025,
    "A*(B+C+D)": 0.025,
}


def absent() -> np.ndarray:
    return np.empty(0, dtype=np.int64)


class ComposerConfig(Config):
    """How scenes are drawn; times in seconds.

    expressions: each with its weight, letters from A on (``expressions``; the defaults are those
    of specs/compa.md 5.2). max_seconds: of a scene. gap: least and most silence where one part
    follows another, one drawn a scene. fade: at both ends of every event, but at most a tenth of
    the scene's shortest. level_db: largest difference of two events' levels, drawn uniformly.
    snippet_seconds: shortest and longest event. loop: repeat a single event that sounds with a
    composed part, in whole copies, as often as it fits. paired: leave room, and so silence, for
    the scene's twin (``twins``), which is then as long. sources: "any", or "voices": what follows
    each other is of one source (speaker), what sounds together of different ones. overlap: what
    relations measure by (``relations``). positives, negatives: most captions of each kind, the main
    caption being a positive. lexicon: the words of captions (``lexicons``). seed: of everything.
    notice: what a set of such scenes must say of itself wherever it is shown.
    """

    notice: ClassVar[str] = ""

    expressions: dict[str, Positive] = EXPRESSIONS
    max_seconds: Positive = 10.0
    gap: tuple[NotNegative, NotNegative] = (0.0, 0.3)
    fade: NotNegative = 0.05
    level_db: NotNegative = 3.0
    snippet_seconds: tuple[Positive, Positive] = (1.0, 9.5)
    loop: bool = True
    paired: bool = False
    sources: Literal["any", "voices"] = "any"
    overlap: Literal["shorter", "union"] = "shorter"
    positives: int = Field(default=5, ge=1, le=50)
    negatives: int = Field(default=5, ge=0, le=50)
    lexicon: LexiconName = "time"
    seed: int = Field(default=0, ge=0)

    @field_validator("expressions")
    @classmethod
    def _readable(cls, expressions: dict[str, float]) -> dict[str, float]:
        if not expressions:
            raise UserError("no expression; name at least one, such as 'A+B'.")
        for text in expressions:
            tree = parse(text)
            letters = LETTERS[: len(slots(tree))]
            if sorted(slots(tree)) != list(range(len(letters))):
                raise UserError(f"expression {text!r}: use the letters {', '.join(letters)}.")
            if height(tree) > DEEPEST:
                raise UserError(
                    f"expression {text!r}: {height(tree)} operators within each other, captions "
                    f"can say {DEEPEST}; nest less."
                )
        return expressions

    @field_validator("gap", "snippet_seconds")
    @classmethod
    def _ascending(cls, pair: tuple[float, float]) -> tuple[float, float]:
        if pair[0] > pair[1]:
            raise UserError(f"{list(pair)} descends; write the smaller number first.")
        return pair

    @property
    def rules(self) -> Rules:
        return Rules(share_of=self.overlap)


@dataclass(frozen=True, eq=False)
class Pool:
    """S snippets, each a single event of one of L labels; times in steps, ``rate`` to the second
    (of sound: samples), so that places are exact.

    labels: (S,) int64 numbers of names. lengths: (S,) int64 steps. sources: of each snippet what
    must not be on both sides of a split (clip, speaker); default: each its own. categories: of each
    label, a scene has one label of a category; default: each its own. phrases: of each snippet its
    words in captions, such as "a dog barking"; default: the label's name. starts: (S,) int64 steps
    within the recording; recordings: (S,) int64 rows of a manifest; defaults 0 and 0, 1, 2, ...

    UserError for what does not fit together, an empty pool, lengths below 1, and phrases that
    are empty or have a mark that captions are read by, or a line break.
    """

    labels: np.ndarray
    lengths: np.ndarray
    rate: int
    names: tuple[str, ...]
    sources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    starts: np.ndarray = field(default_factory=absent)
    recordings: np.ndarray = field(default_factory=absent)

    def __post_init__(self) -> None:
        count = len(self.labels)
        labels = np.asarray(self.labels, dtype=np.int64)
        if not count or labels.min() < 0 or labels.max() >= len(self.names):
            raise UserError(f"pool: {count} snippets with labels outside 0 to {len(self.names)}.")
        defaults = {
            "labels": labels,
            "lengths": np.asarray(self.lengths, dtype=np.int64),
            "sources": self.sources or tuple(map(str, range(count))),
            "categories": self.categories or self.names,
            "phrases": self.phrases or tuple(self.names[i] for i in labels.tolist()),
            "starts": self.starts if len(self.starts) else np.zeros(count, np.int64),
            "recordings": self.recordings if len(self.recordings) else np.arange(count),
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, value)
            wanted = len(self.names) if name == "categories" else count
            if len(value) != wanted:
                raise UserError(f"pool: {len(value)} {name} where there are {wanted}.")
        if self.lengths.min() < 1 or self.rate < 1:
            raise UserError(f"pool: lengths from {self.lengths.min()}, rate {self.rate}; both >= 1")
        for phrase in dict.fromkeys(self.phrases):
            if (
                not phrase.strip()
                or printable(phrase) != phrase
                or any(mark in phrase for mark in MARKS[1:])
            ):
                raise UserError(
                    f"pool: phrase {phrase!r}; words of an event are a line without "
                    f"{' and '.join(map(repr, MARKS[1:]))}, by which captions are read."
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def seconds(self) -> np.ndarray:
        """(S,) float64 durations."""
        return self.lengths / self.rate

    def select(self, rows: Columns[int] | np.ndarray) -> Self:
        """The pool of these snippets only, with the same labels."""
        kept = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            labels=self.labels[kept],
            lengths=self.lengths[kept],
            sources=tuple(self.sources[i] for i in kept.tolist()),
            phrases=tuple(self.phrases[i] for i in kept.tolist()),
            starts=self.starts[kept],
            recordings=self.recordings[kept],
        )

    @cached_property
    def keys(self) -> np.ndarray:
        """(S,) int64: equal for snippets of the same place of the same recording and source."""
        columns = (self.sources, self.recordings.tolist(), self.starts.tolist())
        rows = zip(*columns, self.lengths.tolist(), strict=True)
        digests = b"".join(hashlib.blake2b(repr(r).encode(), digest_size=8).digest() for r in rows)
        return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def split_by_source(pool: Pool, shares: Columns[float], *, seed: int) -> tuple[np.ndarray, ...]:
    """Rows of the pool for each share (of 1) of its snippets; no source is in two of them.

    Within each label the sources go, in seeded order and largest first, where most is missing; so
    every part has every label if its sources allow. UserError for shares that are not above 0 or
    do not add up to 1.
    """
    if min(shares, default=0) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"shares: {list(shares)}; give numbers above 0 whose sum is 1.")
    rng = np.random.default_rng([seed, 7])
    main = dict(zip(pool.sources, pool.labels.tolist(), strict=True))
    sizes = Counter(pool.sources)
    names = sorted(sizes)
    names = [names[i] for i in rng.permutation(len(names))]
    missing = {label: np.zeros(len(shares)) for label in set(main.values())}
    for name in names:
        missing[main[name]] += np.array(shares) * sizes[name]
    part = {}
    for name in sorted(names, key=lambda n: -sizes[n]):
        part[name] = int(np.argmax(missing[main[name]]))
        missing[main[name]][part[name]] -= sizes[name]
    of = np.array([part[source] for source in pool.sources])
    return tuple(np.flatnonzero(of == number) for number in range(len(shares)))
