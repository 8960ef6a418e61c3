"""Every command on a shipped config that a page or a config's head shows can be given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import command_configs, load_config, validate
from benchmarks.config.settings import read_yaml
from multimodal.datasets import DATASETS
from tests.docs_page import FENCE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def shown() -> list[Shown]:
    """Without those on the reader's own files (my.yaml)."""
    found = []
    for page in [*PAGES, *CONFIGS]:
        for line in of_page(page) if page in PAGES else of_config(page):
            words = shlex.split(line, comments=True)[1:]
            if len(words) > 1 and words[0] in command_configs() and words[1].endswith(".yaml"):
                overrides = tuple(w for w in words[2:] if "=" in w and not w.startswith("-"))
                found += [Shown(page, words[0], f, overrides) for f in files(words[1])]
    return found


def files(name: str) -> list[str]:
    """The shipped files that a name stands for: NAME is any start of one."""
    if not name.startswith("configs/"):
        return []
    found = [str(p) for p in sorted(ROOT.glob(name.replace("NAME", "*")))]
    assert found, f"{name} is shown, and there is no such file"
    return found


COMMANDS = shown()


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
