from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.composition.plan import ComposerConfig, Pool, split_by_source
from multimodal.errors import UserError
from tests.multimodal.composition.pools import pool_of


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"expressions": {}}, "name at least one"),
        ({"expressions": {"A+*B": 1.0}}, "position 3"),
        ({"expressions": {"A+C": 1.0}}, "use the letters A, B"),
        ({"expressions": {"A+B*(C+D*E)": 1.0}}, "nest less"),
        ({"expressions": {"A+B": 0.0}}, "greater than 0"),
        ({"gap": [0.3, 0.0]}, "descends"),
        ({"snippet_seconds": [0.0, 2.0]}, "greater than 0"),
        ({"max_second": 3}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be(settings: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("+", r"\+")):
        ComposerConfig.parse(settings)


def test_settings_are_read_back() -> None:
    config = ComposerConfig(gap=(0.1, 0.2), expressions={"A+B": 2.0})
    assert ComposerConfig.parse(config.dump()) == config


def pool(**changes) -> Pool:
    fields = {"labels": np.array([0, 1]), "lengths": np.array([3, 4]), "rate": 10}
    return Pool(**{**fields, "names": ("a", "b"), **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0, 2])}, "labels outside 0 to 2"),
        ({"labels": np.array([], dtype=int)}, "0 snippets"),
        ({"lengths": np.array([3, 0])}, "lengths from 0"),
        ({"sources": ("x",)}, "1 sources where there are 2"),
        ({"categories": ("x", "y", "z")}, "3 categories where there are 2"),
        ({"phrases": ("a dog, barking", "b")}, "without ',' and ';'"),
        ({"phrases": ("a\nb", "b")}, "a line"),
        ({"phrases": (" ", "b")}, "a line"),
    ],
)
def test_pools_that_cannot_be(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pool(**changes)


def test_defaults_and_keys_of_a_pool() -> None:
    plain = pool()
    assert plain.phrases == ("a", "b")
    assert plain.sources == ("0", "1")
    assert plain.seconds.tolist() == [0.3, 0.4]
    part = pool_of(30).select([5, 7])
    assert part.keys.tolist() == pool_of(30).keys[[5, 7]].tolist()
    assert len(set(pool_of(200).keys.tolist())) == 200
    assert pool(starts=np.array([1, 0])).keys[0] != plain.keys[0]


@given(st.integers(0, 10**6))
def test_splits_are_disjoint_by_source_and_keep_every_label(seed: int) -> None:
    whole = pool_of(200, seed=seed)
    parts = split_by_source(whole, [0.6, 0.2, 0.2], seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    groups = [{whole.sources[i] for i in part.tolist()} for part in parts]
    assert sum(map(len, groups)) == len(set(whole.sources))
    assert 80 <= len(parts[0]) <= 160
    again = split_by_source(whole, [0.6, 0.2, 0.2], seed=seed)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


def test_shares_are_of_one() -> None:
    with pytest.raises(UserError, match="whose sum is 1"):
        split_by_source(pool(), [0.5, 0.6], seed=0)
