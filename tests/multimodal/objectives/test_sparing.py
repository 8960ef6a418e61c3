"""What a note advises against equal texts is a setting that the objective has."""

from __future__ import annotations

import pytest
import yaml

from multimodal.objectives import OBJECTIVES
from multimodal.objectives.views import ViewsConfig


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_each_setting_that_is_advised_spares_equal_texts(name: str) -> None:
    plain = OBJECTIVES.parse(name)
    assert isinstance(plain, ViewsConfig)
    assert plain.sparing
    if plain.spares_equal_texts:  # as it comes: nothing is advised
        return
    for setting in plain.sparing.split(" or "):
        config = OBJECTIVES.parse({"name": name, **yaml.safe_load(setting)})
        assert isinstance(config, ViewsConfig)
        assert config.spares_equal_texts
