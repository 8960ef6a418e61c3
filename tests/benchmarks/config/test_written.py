"""What is written is what is meant: the field decides how a value is read, not its spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config, validate
from benchmarks.config.settings import typed
from benchmarks.config.written import Loader, kinds, read
from multimodal.errors import UserError
from multimodal.yaml_limits import load

TEXT = """\
experiment: e
dataset: {name: table, root: R, file: t.csv}
scenario: {name: class_incremental, num_experiences: 2}
learners: [finetune]
"""
# What YAML would drop, turn into another value or refuse.
TRAPS = (
    *("set #2", "# all", "010", "1_000", "0o10", "0x1F", "12:30:00", "12:30", "NO", "on", "y"),
    *("null", "~", "none", "2024-01-01", "1.0", "1e3", ".5", "-", "!!int x", "!x", "&a b", "*data"),
    *(
        "@data",
        "`x`",
        "%a",
        "'data",
        '"data"',
        "a: b.csv",
        "data: 1",
        "[x]/data",
        "{a}",
        "C:\\data",
    ),
    *(" a ", "a\tb", "| x", "> x", "? x", ": x", "a=b", "é", "", "<<", "=", "---", "..."),
)


def loaded(path: Path, *overrides: str) -> Any:
    path.write_text(TEXT)
    return load_config(path, overrides, model=RunConfig)


def overridden(*overrides: str) -> Any:
    data = typed(Loader(TEXT).get_single_data(), overrides, RunConfig)
    return validate(RunConfig, data, source="t.yaml")


@given(st.text())
def test_text_stands_for_itself(text: str) -> None:
    check_text(text)


@pytest.mark.parametrize("text", TRAPS)
def test_what_yaml_would_read_otherwise_stands_for_itself(text: str, tmp_path) -> None:
    check_text(text)
    assert loaded(tmp_path / "c.yaml", f"output_dir={text}").output_dir == text


def check_text(text: str) -> None:
    config = overridden(f"dataset.path_column={text}", f"dataset.root={text}", f"data_root={text}")
    assert config.dataset.path_column == text
    unset = text in ("", "null")
    assert config.dataset.root == config.data_root == (None if unset else text)


def plain_items() -> st.SearchStrategy[str]:
    outside = st.characters(codec="utf-8", exclude_characters="[]{},:#&*!|>'\"%@`?-")
    return st.text(outside.filter(str.isprintable), min_size=1).filter(lambda s: s == s.strip())


@given(st.lists(plain_items(), min_size=1))
@example(["010", "NO", "null", "~", "1_000", "2024-01-01", "on"])
def test_text_in_a_list_stands_for_itself(words: list[str]) -> None:
    assert typed({}, [f"classes=[{', '.join(words)}]"], AlignConfig) == {"classes": words}


@given(st.text())
@example("0E0")
def test_text_in_a_file_stands_for_itself(text: str) -> None:
    data = Loader(yaml.safe_dump({"experiment": text})).get_single_data()
    assert read(data, [RunConfig]) == {"experiment": text}


@pytest.mark.parametrize("text", ["010", "1_000", "0o10", "12:30", "NO", "on", "2024-01-01", "1e3"])
def test_plain_text_in_a_file_stands_for_itself(text: str, tmp_path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT.replace("t.csv", text))
    assert load_config(path, model=RunConfig).dataset.file == text  # pyright: ignore


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-3", 0.001),
        ("training.learning_rate=1e3", 1000.0),
        ("training.weight_decay=1E-2", 0.01),
        ("training.weight_decay=.5", 0.5),
        ("training.weight_decay=0", 0),
        ("training.epochs=10", 10),
        ("training.threads=null", None),
        ("training.threads=", None),
        ("quick=true", True),
        ("quick=True", True),
        ("quick=yes", True),
        ("quick=off", False),
        ("seeds=[1, 2,3]", (1, 2, 3)),
        ("dataset.test_fraction=0.25", 0.25),
    ],
)
def test_numbers_and_switches(override: str, value: object) -> None:
    found = overridden(override)
    for key in override.partition("=")[0].split("."):
        found = getattr(found, key)
    assert found == value
    assert type(found) is (
        float if isinstance(value, int | float) and "." in str(found) else type(value)
    )


@pytest.mark.parametrize("number", ["010", "1_0", "0o10", "0x1F", "1e1", "1.0", "12:30", "x"])
@pytest.mark.parametrize("place", ["training.epochs={}", "seeds=[{}]", "training={{epochs: {}}}"])
def test_numbers_that_are_not_plain_are_refused(number: str, place: str, tmp_path) -> None:
    """In an override, and in a file, by the spelling that was written."""
    with pytest.raises(UserError, match="Input should be a valid integer") as caught:
        overridden(place.format(number))
    assert f"(got {number!r}); write a whole number such as 10" in str(caught.value)
    path = tmp_path / "c.yaml"
    path.write_text(TEXT + f"training: {{epochs: {number}}}\n")
    with pytest.raises(UserError, match=r"training\.epochs: Input should be a valid integer"):
        load_config(path, model=RunConfig)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seeds=1,2,3", "seeds: Input should be a valid array (got '1,2,3'); write [a, b]"),
        ("training.learning_rate=010", "valid number (got '010'); write a number such as 0.1"),
        ("training.learning_rate=1e999", "valid number (got '1e999')"),
        ("quick=y", "valid boolean (got 'y'); write true or false"),
        ("seeds=[1, 2", "'seeds=[1, 2': the value is not valid YAML"),
        ("seeds=[1] # all", "'seeds=[1] # all': YAML takes # for the start of a comment"),
        ("seeds=[1, #2\n3]", "YAML takes # for the start of a comment"),
        ("scenario.classes=[[a\nb]]", "a value goes over the end of a line"),
        ("scenario.classes=[[&x a, *x]]", "an anchor (&), alias (*) or tag (!) is no value"),
        ("seeds=[!!int 1]", "an anchor (&), alias (*) or tag (!) is no value"),
        ("dataset={name: table, name: fsdd}", "'name' stands twice"),
        ("dataset={name: table, root: R #2, file: t}", "is not valid YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(override: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        overridden(override)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_types_are_known_within_lists_names_and_mappings() -> None:
    config = overridden(
        "dataset={name: folder, root: 010, seed: 7}",
        "learners=[finetune, {name: replay, memory_size: 20}]",
        "learners.1.memory_size=30",
        "learners.0=er",
        "encoder={width: 16}",
    )
    assert (config.dataset.root, config.dataset.seed) == ("010", 7)
    assert [x.registered_name for x in config.learners] == ["er", "replay"]
    assert (config.learners[1].memory_size, config.encoder.width) == (30, 16)
    # The type is known whatever the order in which name and settings come.
    assert overridden("dataset=", "dataset.root=010", "dataset.name=folder").dataset.root == "010"


def test_every_command_reads_overrides_alike(medley, tiny) -> None:
    assert "root: '010'" in medley("config", "show", "tiny.yaml", "dataset.root=010").out
    checked = medley("datasets", "check", "folder", "root=set #2")
    assert checked.code == 2
    assert "set #2" in checked.err
    assert "expected a folder" in checked.err
    assert "root 010" in medley("bench", "tiny.yaml", "dataset.root=root 010").err
    align = typed({"width": "x"}, ["prompts.templates=010", "width=8"], AlignConfig)
    assert align == {"prompts": {"templates": "010"}, "width": 8}


def test_what_a_field_may_hold() -> None:
    assert kinds(int | None) == [int, type(None)]
    assert read(Loader("{a: 010, b: 5, c: true, d: null}").get_single_data()) == {
        "a": "010",
        "b": 5,
        "c": True,
        "d": None,
    }


@pytest.mark.parametrize(
    "override",
    [
        "learners.\u00b2=er",
        f"learners={'[' * 3000}{']' * 3000}",
        f"training.learning_rate={'9' * 309}",
    ],
)
def test_what_python_cannot_hold_is_refused_in_one_line(tmp_path, override: str) -> None:
    (tmp_path / "c.yaml").write_text(TEXT)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "c.yaml", [override], model=RunConfig)
    assert "\n" not in str(caught.value)


def test_merge_keys_are_what_yaml_says_of_them() -> None:
    text = "a: &a {x: 1, y: [b]}\nb: {<<: *a, x: 3}\nc:\n  <<: [*a]\n"
    found = load(text, Loader)
    assert found["b"] == {"x": "3", "y": ["b"]}
    assert found["c"] == found["a"]
    with pytest.raises(UserError, match="'x' stands twice"):
        load("a: &a {x: 1}\nb: {<<: *a, x: 1, x: 2}\n", Loader)
