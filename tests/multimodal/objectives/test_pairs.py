"""Settings that objectives of pairs share."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.pairs import AlignmentConfig


def configs() -> list[tuple[str, type[AlignmentConfig]]]:
    known = [(name, OBJECTIVES.config(name)) for name in OBJECTIVES.names()]
    return [(name, c) for name, c in known if issubclass(c, AlignmentConfig)]


@pytest.mark.parametrize(("name", "config"), configs())
def test_a_bias_is_taken_where_the_objective_has_one_and_refused_elsewhere(name, config) -> None:
    assert config.parse({"bias": 0.0}).bias == 0  # as older runs have it in their config.yaml
    if config.uses_bias:
        assert config.parse({"bias": -3.0}).bias == -3
    else:
        with pytest.raises(ValidationError, match=f"objective '{name}' has no bias; leave it out"):
            config.parse({"bias": -3.0})


def test_which_objectives_have_a_bias() -> None:
    has = {name: config.uses_bias for name, config in configs()}
    assert (has["clip"], has["cwcl"], has["siglip"]) == (False, False, True)
