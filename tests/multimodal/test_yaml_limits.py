"""YAML within limits: what is counted, and what is refused in one line and little time."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal import yaml_limits
from multimodal.errors import UserError
from multimodal.yaml_limits import SafeLoader, load

# 318 bytes that stand for 10**10 values.
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(10 * [f'*{before}'])}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


def refused(text: str) -> str:
    begin = time.process_time()
    with pytest.raises(UserError) as caught:
        load(text)
    assert time.process_time() - begin < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(data: Any) -> int:
    """The oracle: all values, keys, lists and mappings, as they are written out."""
    if isinstance(data, dict):
        return 1 + sum(values(k) + values(v) for k, v in data.items())
    return 1 + sum(map(values, data)) if isinstance(data, list) else 1


PLAIN = st.recursive(
    st.integers() | st.booleans() | st.text("ab:# ", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(data=PLAIN, times=st.integers(1, 4))
def test_aliases_count_as_what_they_stand_for(data: Any, times: int) -> None:
    whole = [data] * times + [{"again": [data]}]  # which PyYAML writes with aliases
    loader = SafeLoader(yaml.safe_dump(whole))
    assert loader.get_single_data() == whole
    assert loader._values == values(whole)


def test_a_bomb_of_aliases_is_refused() -> None:
    assert len(BOMB) < 500
    assert refused(BOMB) == "line 6: more than 200,000 values; write fewer."


def test_many_values_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(yaml_limits, "MOST_VALUES", 50)
    assert load("[" + "1," * 49 + "]") == [1] * 49
    assert refused("[" + "1," * 50 + "]") == "line 1: more than 50 values; write fewer."


def test_a_long_text_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(yaml_limits, "MOST_CHARACTERS", 100)
    assert refused("# " + "a" * 200) == "202 characters; at most 100 are read."


@pytest.mark.parametrize("text", ["[" * 600 + "]" * 600, "{a: " * 600 + "}" * 600, "- " * 600])
def test_deep_nesting_is_refused(text: str) -> None:
    assert refused(text) == "line 1: nested over 50 deep; write it flatter."
    assert load("[" * 50 + "]" * 50) is not None


def test_what_stands_within_itself_is_refused() -> None:
    assert refused("a: &a\n  b: *a\n") == "line 2: an alias (*) stands within what it stands for."


@pytest.mark.parametrize(
    "text",
    [
        "a: !!int x",
        "a: !!float x",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!binary é",
        "a: !!set [a]",
        "a: !!omap x",
        "a: !!pairs {a: 1}",
        f"a: !!int '{'9' * 5_000}'",
        f"a: {'9' * 5_000}",
        "a: !!python/name:os.system x",
        "a: !!merge x",
        "<<: x",
        "a: 9999-99-99",
        "a: \x00",
        "a: \ud800",
        "? {a: b}\n: c",
        "a: *nothing",
        "a: !<tag:yaml.org,2002:int> 1e",
    ],
)
def test_values_that_do_not_fit_their_tags_are_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "tracking: {uri: postgresql://me:S3cret@db/runs, }}\n",
        "tracking:\n  uri: postgresql://me:S3cret: @db/runs\n",
        "tracking:\n  uri: 'postgresql://me:S3cret@db/runs' store\n",
        'tracking:\n  uri: "postgresql://me:S3cret\\%40@db/runs"\n',
    ],
)
def test_errors_quote_nothing_of_the_text(text: str) -> None:
    with pytest.raises(UserError, match=r"line \d, column \d") as told:
        load(text)
    assert "S3cret" not in str(told.value)
