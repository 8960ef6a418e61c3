from __future__ import annotations

import sys
import textwrap
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from multimodal.errors import UserError
from multimodal.registry import Config, Registry, load_plugins

COLOURS = Registry("colour")


@COLOURS.register("red")
class Red(Config):
    depth: Annotated[int, Field(ge=1)] = 1


BLENDS = Registry("blend")


@BLENDS.register("mix")
class Mix(Config):
    parts: tuple[Annotated[Config, COLOURS.choice], ...]
    share: float = 0.5


class Picture(Config):
    ground: Annotated[Config, COLOURS.choice] = Red()
    blend: Annotated[Config, BLENDS.choice] | None = None


def test_a_name_alone_means_the_defaults() -> None:
    assert COLOURS.parse("red") == Red()


def test_nested_choices_are_parsed_and_dumped_to_what_was_read() -> None:
    data = {"name": "mix", "parts": ["red", {"name": "red", "depth": 3}], "share": 1}
    config = BLENDS.parse(data)
    assert config == Mix(parts=(Red(), Red(depth=3)), share=1.0)
    assert BLENDS.parse(config.dump()) == config
    assert config.dump()["parts"][1] == {"name": "red", "depth": 3}


def test_every_problem_is_reported_with_its_path() -> None:
    data = {
        "ground": 3,
        "blend": {"name": "mix", "parts": ["rde", {"name": "red", "depth": 0, "x": 1}]},
    }
    with pytest.raises(ValidationError) as caught:
        Picture.parse(data)
    problems = {".".join(map(str, e["loc"])): e["msg"] for e in caught.value.errors()}
    assert set(problems) == {"ground", "blend.parts.0", "blend.parts.1.depth", "blend.parts.1.x"}
    assert "unknown colour 'rde'; did you mean 'red'? Valid: red." in problems["blend.parts.0"]


@pytest.mark.parametrize("depth", ["1", 1.5, True, None])
def test_types_are_strict(depth: object) -> None:
    with pytest.raises(ValidationError, match="depth"):
        COLOURS.parse({"name": "red", "depth": depth})


@pytest.mark.parametrize("value", [3, None, [], {"depth": 1}, {"name": 3}])
def test_what_is_no_choice_is_refused_with_the_valid_names(value: object) -> None:
    with pytest.raises(ValidationError, match="colour: red"):
        Picture.parse({"ground": value})


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match="already registered"):

        @COLOURS.register("red")
        class Other(Config):
            pass


def test_schema_lists_the_choices() -> None:
    schema = Picture.model_json_schema()
    choices = schema["properties"]["ground"]["anyOf"]
    assert choices[0] == {"enum": ["red"]}
    assert choices[1]["properties"]["depth"]["minimum"] == 1


def test_unknown_name_is_a_user_error() -> None:
    with pytest.raises(UserError, match="Valid: red"):
        COLOURS.config("green")


def test_plugins_named_in_the_environment_are_imported(tmp_path, monkeypatch) -> None:
    module = "medley_test_plugin"
    (tmp_path / f"{module}.py").write_text(
        textwrap.dedent("""
        from multimodal.objectives import OBJECTIVES
        from multimodal.registry import Config

        @OBJECTIVES.register("outside")
        class Outside(Config):
            pass
    """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MEDLEY_PLUGINS", f" {module} ,")
    load_plugins()
    from multimodal.objectives import OBJECTIVES

    assert "outside" in OBJECTIVES.names()
    monkeypatch.setenv("MEDLEY_PLUGINS", "no_such_module_at_all")
    with pytest.raises(UserError, match=r"no_such_module_at_all.*MEDLEY_PLUGINS"):
        load_plugins()
    sys.modules.pop(module)
