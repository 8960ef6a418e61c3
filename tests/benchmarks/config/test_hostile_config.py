"""Configs and overrides that others wrote: one line a problem, little time, never a traceback."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config, read_back
from multimodal.errors import UserError
from tests.benchmarks.conftest import TINY
from tests.multimodal.test_yaml_limits import BOMB

SECONDS = 20  # of processor time


def refused(path: Path, *overrides: str) -> list[str]:
    begin = time.process_time()
    with pytest.raises(UserError) as caught:
        load_config(path, overrides, model=RunConfig)
    assert time.process_time() - begin < SECONDS
    lines = str(caught.value).splitlines()
    assert all(len(line) < 2_000 for line in lines)
    return lines


def written(folder: Path, more: str) -> Path:
    (folder / "tiny.yaml").write_text(TINY + more)
    return folder / "tiny.yaml"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (BOMB, "more than 200,000 values"),
        ("seeds: " + "[" * 600 + "]" * 600, "nested over 50 deep"),
        ("seeds: [!!int x]", "does not fit its tag"),
        (f"seeds: [!!int '{'9' * 5_000}']", "does not fit its tag"),
        (f"seeds: [{'9' * 5_000}]", "seeds.0"),
        (f"{'k' * 1_000}: 1", "unknown key"),
        ("seeds: &a [*a]", "stands within what it stands for"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, more: str, words: str) -> None:
    lines = refused(written(tmp_path, more))
    assert len(lines) == 1
    assert words in lines[0]


def test_of_very_many_unknown_keys_some_are_told(tmp_path: Path) -> None:
    keys = "".join(f"key{number}: 1\n" for number in range(20_000))
    lines = refused(written(tmp_path, keys))
    assert len(lines) == 51
    assert lines[-1].endswith("tiny.yaml: ... and 19950 more")


@pytest.mark.parametrize(
    "override",
    [
        "a" + ".a" * 5_000 + "=1",
        f"learners.{'9' * 5_000}=1",
        f"seeds=[{'9' * 5_000}]",
        "seeds=" + "[" * 600 + "]" * 600,
        "encoder.width=100000",
        "encoder.depth=100000",
        "encoder={width: 8192, depth: 256, heads: 2}",
        f"encoder.width={'9' * 5_000}",
        f"dataset={'x' * 100_000}",
    ],
)
def test_a_hostile_override_is_refused_in_one_line(tmp_path: Path, override: str) -> None:
    assert len(refused(written(tmp_path, ""), override)) == 1


def test_the_record_of_a_run_is_read_within_limits(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(BOMB)
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read \(.*; start anew\."):
        read_back(RunConfig, tmp_path, "start anew")


VALUES = ("1", "-1", "1e400", ".nan", "[", "{a: 1}", "[[[]]]", "null", "x" * 300, "!!int y", "&a 1")
VALUES += ("*a", "'", "\t", "9" * 400, "true", "2020-01-01", "\u2028", "é", "{name: [1]}", "0x10")


def hostile(chance: random.Random) -> str:
    """A config with some values and keys exchanged."""
    text = TINY
    for _ in range(chance.randint(1, 4)):
        words = text.split(" ")
        words[chance.randrange(len(words))] = chance.choice(VALUES)
        text = " ".join(words)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_random_configs_are_read_or_refused(tmp_path: Path, part: int) -> None:
    path = tmp_path / "tiny.yaml"
    for number in range(30):
        path.write_text(hostile(random.Random(f"{part} {number}")))
        with contextlib.suppress(UserError):
            load_config(path, (), model=RunConfig)


# ---- names ------------------------------------------------------------------------------------


def test_a_path_that_is_too_long_is_refused_in_one_line(medley, tiny) -> None:
    for words in (["bench", "x" * 300], ["bench", "tiny.yaml", f"dataset.root={'y' * 300}"]):
        ended = medley(*words)
        assert ended.code == 2, ended.err
        assert ended.err.count("\n") == 1
        assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no\\nluck')", "RuntimeError: no luck"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import sys; sys.exit('gone')", "SystemExit: gone"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x = (", "was never closed"),
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
    ],
)
def test_a_plug_in_that_raises_or_exits_is_told_in_one_line(
    body: str, words: str, tmp_path, monkeypatch
) -> None:
    from multimodal.registry import load_plugins

    (tmp_path / "medley_hostile_plugin.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MEDLEY_PLUGINS", "medley_hostile_plugin")
    with pytest.raises(UserError, match=r"^plug-in module 'medley_hostile_plugin'") as caught:
        load_plugins()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["$x", "a$b$c", "$\\frac$", r"\$5$", "$$", "100 $ and $"])
def test_dollar_signs_in_names_are_drawn_as_they_are(name: str) -> None:
    from matplotlib.figure import Figure

    from benchmarks.reports.pictures import draw_map, plain

    stream = {"matrix": [[1, 2]], "classes": [name], "leak_share": 0.0}
    draw_map(stream).canvas.draw()
    text: Any = Figure().text(0, 0, plain(name))
    assert text._preprocess_math(text.get_text()) == (name, False)
