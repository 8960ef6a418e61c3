"""The pages as a whole: the README's length, the navigation, links, pictures, versions."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs_page import FENCE

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MOST_LINES = 200
MOST_BYTES = 150 * 1024


def prose(page: Path) -> str:
    """Without what stands in fences and in code."""
    return re.sub(r"`[^`]*`", "", FENCE.sub("", page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """Of the headings, as Python-Markdown makes them, and GitHub too of plain ones."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", head.encode("ascii", "ignore").decode()) for head in heads)
    return {re.sub(r"[-\s]+", "-", head.strip().lower()) for head in plain}


def broken(page: Path) -> list[str]:
    """Links that lead to no file, or to no heading of it."""
    found = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def entries(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav
    return [name for value in values for name in entries(value)]


SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def test_the_readme_has_an_end() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= MOST_LINES


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(entries(SITE["nav"])) == [str(p.relative_to(ROOT / "docs")) for p in DOCS]


@pytest.mark.parametrize("page", [*FRONT, *DOCS], ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_pages_of_the_site_link_to_no_file_outside_of_it() -> None:
    for page in DOCS:
        assert not [link for link in LINK.findall(prose(page)) if link.startswith("..")], page


def test_what_is_broken_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Here\n\n## What the tower's blocks hold\n")
    good = "[b](b.md) [head](b.md#what-the-towers-blocks-hold) [own](#top) `[code](x.md)` "
    bad = "[gone](c.md) [no head](b.md#there) [nor here](#b)"
    (tmp_path / "a.md").write_text(f"# Top\n\n{good}{bad}\n\n```\n[fence](x.md)\n```\n")
    assert broken(tmp_path / "a.md") == ["c.md", "b.md#there", "#b"]


def test_every_page_is_reached_from_the_readme() -> None:
    found = {(ROOT / link).resolve() for link in LINK.findall(prose(ROOT / "README.md"))}
    assert set(DOCS) - {ROOT / "docs/index.md"} <= found


def test_blocks_of_code_can_be_read() -> None:
    """Python and YAML; what is left out is written as ``...``, which both read."""
    for page in [*FRONT, *DOCS]:
        for language, text in FENCE.findall(page.read_text("utf-8")):
            if language == "python":
                ast.parse(text, str(page))
            elif language == "yaml":
                assert yaml.safe_load(text.replace(", ...", "")), page


def test_pictures_are_small_and_shown() -> None:
    pictures = sorted((ROOT / "docs/pictures").glob("*.png"))
    shown = "".join(page.read_text("utf-8") for page in [*FRONT, *DOCS])
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < MOST_BYTES
        assert f"pictures/{picture.name})" in shown


def test_the_site_fetches_nothing() -> None:
    assert SITE["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & set(SITE)
    for page in DOCS:
        assert not re.search(r"<(script|img|link|iframe)\b", prose(page)), page


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert changes[:2] == ["Unreleased", project["version"]]
    assert f"-{project['version']}-py3" in (ROOT / "README.md").read_text("utf-8")
