"""Words that the command knows beside its commands: -h, --version, completion, --dry-run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config


def package_version() -> str:
    try:
        return version(cli.DISTRIBUTION)
    except PackageNotFoundError:
        return ""


@pytest.mark.parametrize("words", ["-h", "bench -h", "datasets -h", "runs list -h"])
def test_h_asks_for_help(medley, words: str) -> None:
    outcome = medley(*words.split())
    assert outcome.code == 0
    assert "Usage: medley" in outcome.out
    assert words != "-h" or "--install-completion" in outcome.out


def test_the_version_is_the_distribution_s(medley) -> None:
    outcome = medley("--version")
    assert outcome.code == 0
    assert outcome.out in (
        f"medley {package_version()}\n",
        "medley, not installed: run from its sources\n",
    )


def test_the_shell_completes_names_of_shipped_configs(medley, monkeypatch) -> None:
    monkeypatch.setenv("_MEDLEY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "medley bench bench/fsdd_si")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert "bench/fsdd_si_blurry" in medley().out.split()


# ---- a dry run ------------------------------------------------------------------------------


def test_a_dry_run_lists_the_runs_and_leaves_no_file(medley, tiny) -> None:
    before = sorted(tiny.rglob("*"))
    words = ("bench", "tiny.yaml", "learners=[finetune,joint]", "seeds=[1,2]")
    outcome = medley(*words, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert sorted(tiny.rglob("*")) == before
    cells = load_config(Path("tiny.yaml"), words[2:], model=RunConfig).cells()
    for cell in cells:
        (row,) = [line for line in outcome.out.splitlines() if f" {cell.hash} " in line]
        assert cell.title in row
        assert " new " in row
    assert "folder: 8 recordings, 2 classes" in outcome.out
    assert outcome.out.endswith("4 runs: 4 new. Nothing was run (--dry-run).\n")


def test_a_dry_run_says_what_is_done(medley, tiny) -> None:
    assert medley("bench", "tiny.yaml").code == 0
    words = ("bench", "tiny.yaml", "learners=[finetune,joint]", "--dry-run")
    assert "2 runs: 1 done, 1 new." in medley(*words).out
    assert "2 runs: 2 new." in medley(*words, "--fresh").out
    assert medley("bench", "tiny.yaml", "dataset.root=nowhere", "--dry-run").code == 2
