"""Every command that a page or a config's head shows can be given.

Its words are parsed by the command line's own rules; a shipped config is loaded with the overrides
that are shown, and what is said of a dataset are its settings.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from benchmarks import cli
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import command_configs, load_config, validate
from benchmarks.config.settings import read_yaml
from multimodal.datasets import DATASETS
from tests.docs_page import FENCE

ROOT = Path(__file__).parents[1]
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES = [*FRONT, *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SPAN = re.compile(r"`(medley [^`]+)`")
PATIENTS = ROOT / "docs" / "patients.md"


class Shown(NamedTuple):
    """A command as it is shown: where, which, on which file, with which overrides."""

    page: Path
    command: str
    file: str
    overrides: tuple[str, ...]


def of_page(page: Path) -> list[str]:
    text = page.read_text("utf-8")
    blocks = "".join(block for _, block in FENCE.findall(text)).replace("\\\n", " ")
    spans = SPAN.findall(FENCE.sub("", text).replace("\n", " "))
    return [*spans, *re.findall(r"^(?:\$ )?(medley .*)$", blocks, re.MULTILINE)]


def of_config(path: Path) -> list[str]:
    comments = "\n".join(re.findall(r"^# ?(.*)$", path.read_text("utf-8"), re.MULTILINE))
    return re.findall(r"^ *(medley .*)$", comments.replace("\\\n", " "), re.MULTILINE)


def lines() -> list[tuple[Path, list[str]]]:
    """The words behind ``medley`` of every line that is shown, but those of extending.md's own."""
    found = []
    for page in [*PAGES, *CONFIGS]:
        for line in of_page(page) if page in PAGES else of_config(page):
            found.append((page, shlex.split(line, comments=True)[1:]))
    return [(page, words) for page, words in found if words[:1] not in ([], ["count"])]


def shown() -> list[Shown]:
    """Without those on the reader's own files (my.yaml)."""
    found = []
    for page, words in lines():
        if len(words) > 1 and words[0] in command_configs():
            overrides = tuple(w for w in words[2:] if "=" in w and not w.startswith("-"))
            found += [Shown(page, words[0], f, overrides) for f in files(words[1])]
    return found


def files(name: str) -> list[str]:
    """The shipped files that a name stands for: NAME is any start of one, a folder all of it."""
    name = name.removeprefix("configs/")
    if name.endswith("my.yaml") or not (ROOT / "configs" / name.partition("/")[0]).is_dir():
        return []
    pattern = name.replace("NAME", "*")
    places = [p for end in ("", ".yaml", "/*.yaml") for p in ROOT.glob(f"configs/{pattern}{end}")]
    found = sorted(str(place) for place in places if place.suffix == ".yaml")
    assert found, f"{name} is shown, and there is no such file"
    return found


COMMANDS, LINES = shown(), lines()


def test_enough_are_found() -> None:
    pages = {each.page for each in COMMANDS}
    assert {ROOT / "README.md", ROOT / "docs/finetune.md", PATIENTS} <= pages
    assert len(pages & set(CONFIGS)) > 60


@pytest.mark.parametrize("page", sorted({c.page for c in COMMANDS}), ids=lambda p: p.stem)
def test_its_settings_fit_its_file(page: Path) -> None:
    for each in (c for c in COMMANDS if c.page == page):
        file, model = Path(each.file), command_configs()[each.command]
        load_config(file, each.overrides, model=model)
        refuse_idle([file], each.overrides, model=model)


@pytest.mark.parametrize("page", sorted({page for page, _ in LINES}), ids=lambda p: p.stem)
def test_its_words_are_those_of_the_command(page: Path) -> None:
    """An unknown command or option, or one argument too many or too few, is an error of click's."""
    for words in (w for p, w in LINES if p == page):
        command: Any = typer.main.get_command(cli.app)
        rest = list(words)
        if rest[0].startswith("--"):  # of medley itself
            options = {option for p in command.params for option in p.opts}
            assert rest[0] in {*options, "--help"}
            continue
        while hasattr(command, "commands"):
            assert rest, words
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        if rest:  # alone, a command's name speaks of it
            command.make_context(" ".join(words), rest)


def test_modules_that_are_shown_are_there() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    modules = set(re.findall(r"-m (benchmarks[\w.]*)", text))
    assert len(modules) >= 4
    for name in modules:
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name


def test_datasets_that_are_shown_have_these_settings() -> None:
    checked = [words for _, words in LINES if words[:2] == ["datasets", "check"] and words[3:]]
    assert len(checked) >= 2
    for words in checked:
        given = dict(w.split("=", 1) for w in words[3:] if "=" in w)
        config = DATASETS.config(words[2]) if words[2] != "sessions" else None
        assert config is None or set(given) <= set(config.model_fields), words


def test_settings_that_the_page_of_cases_shows_are_settings() -> None:
    blocks = [yaml.safe_load(t.replace(", ...", "")) for k, t in blocks_of(PATIENTS) if k == "yaml"]
    (paired,) = (block for block in blocks if "dataset" in block)
    assert DATASETS.parse(paired["dataset"]).registered_name == "paired"
    (views,) = (block for block in blocks if "views" in block)
    base: dict[str, Any] = read_yaml(ROOT / "configs/align/more_synthetic_patients.yaml")
    config = validate(command_configs()["align"], {**base, **views}, source=str(PATIENTS))
    assert set(config.dump()["views"]) == {"xray", "ecg"}


def blocks_of(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text("utf-8"))
