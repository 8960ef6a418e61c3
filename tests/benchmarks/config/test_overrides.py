"""Overrides as users mean them: by the names of a list's entries, and never for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import load_config
from multimodal.errors import UserError
from tests.toy import toy_data

LEARNERS: list[Any] = [
    "finetune",
    {"name": "er_ace", "memory_size": 70},
    {"name": "er", "memory_size": 30},
    {"name": "er", "memory_size": 30, "head": {"whiten": True}},
]


@pytest.fixture
def toy(tmp_path) -> Path:
    return write(tmp_path / "toy.yaml", learners=LEARNERS, seeds=[1, 2, 3])


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump(toy_data(**changes)))
    return path


def learners(path: Path, *overrides: str) -> list[dict[str, Any]]:
    config = load_config(path, overrides, model=RunConfig)
    return [learner.dump() for learner in config.learners]


def refuse(path: Path, *overrides: str) -> None:
    load_config(path, overrides, model=RunConfig)
    refuse_idle([path], overrides, model=RunConfig)


# ---- by name --------------------------------------------------------------------------------


def test_a_bare_name_selects_the_entries_of_the_config(toy) -> None:
    own = learners(toy)
    assert learners(toy, "learners=[er_ace]") == [own[1]]
    assert own[1]["memory_size"] == 70
    assert learners(toy, "learners=[er, finetune]") == [own[2], own[3], own[0]]


def test_other_entries_stand_for_themselves(toy) -> None:
    bare = learners(write(toy.with_name("bare.yaml"), learners=["derpp"]))
    assert learners(toy, "learners=[er_ace, derpp]") == [learners(toy)[1], *bare]
    (alone,) = learners(toy, "learners=[{name: er_ace}]")
    assert alone["memory_size"] != 70
    # A list that was itself written as text.
    (chosen,) = learners(toy, "learners=[{name: er, memory_size: 9}]", "learners=[er]")
    assert chosen["memory_size"] == 9


def test_a_setting_of_an_entry_is_found_by_its_name(toy) -> None:
    own = learners(toy)
    assert learners(toy, "learners.er_ace.memory_size=5") == [
        own[0], {**own[1], "memory_size": 5}, *own[2:],
    ]  # fmt: skip
    assert [e.get("memory_size") for e in learners(toy, "learners.er.memory_size=5")[2:]] == [5, 5]
    assert learners(toy, "learners=[er_ace]", "learners.er_ace.memory_size=5") == learners(
        toy, "learners.er_ace.memory_size=5", "learners=[er_ace]"
    )
    assert learners(toy, "learners.0.epochs=7")[0]["epochs"] == 7
    assert learners(toy, "learners.finetune.epochs=7")[0]["epochs"] == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learners.er_aec.memory_size=5", "'er_aec' is no place in a list of 4; did you mean"),
        ("learners.9.memory_size=5", "'9' is no place in a list of 4."),
        ("seeds.er=5", "'er' is no place in a list of 3."),
        ("learners=[er", "not valid YAML"),
    ],
)
def test_a_name_that_is_not_there(toy, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config(toy, [text], model=RunConfig)


def test_entries_are_copied(toy) -> None:
    """er stands twice: the one that changes leaves the other alone."""
    chosen = learners(toy, "learners=[er]", "learners.0.memory_size=5")
    assert [entry["memory_size"] for entry in chosen] == [5, 30]


# ---- for nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["training.epochs=2", "quick=false", "dataset=toy", "learners.er.memory_size=30",
     "encoder.width=16"],
)  # fmt: skip
def test_what_changes_nothing_is_refused(toy, text: str) -> None:
    with pytest.raises(UserError, match="changes nothing") as caught:
        refuse(toy, "training.batch_size=4", text)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("training.epochs=3", "training.epochs=5"),
        ("training.epochs=7", "training.epochs=7"),
        ("learners.er.memory_size=5", "learners=[er_ace]"),
        ("output_dir=a", "output_dir=b"),
    ],
)
def test_what_another_replaces_is_refused(toy, first: str, second: str) -> None:
    with pytest.raises(UserError, match="replaces what it sets") as caught:
        refuse(toy, first, "training.batch_size=4", second)
    assert f"'{first}': '{second}'" in str(caught.value)


def test_where_runs_go_and_their_seeds_may_be_said_again(toy) -> None:
    refuse(toy, "output_dir=runs", "tracking.store=none", "cache=memory", "seeds=[1,2,3]")
    refuse(toy, "learners=[finetune,er_ace,er]")


@given(epochs=st.integers(1, 9), size=st.integers(1, 99))
def test_what_changes_something_never_is(tmp_path_factory, epochs: int, size: int) -> None:
    """Against what the two settings hold in the file: 2 epochs, batches of 8."""
    toy = write(tmp_path_factory.getbasetemp() / "given.yaml", learners=["finetune"])
    words = [f"training.epochs={epochs}", f"training.batch_size={size}"]
    if epochs == 2 or size == 8:
        with pytest.raises(UserError, match="changes nothing"):
            refuse(toy, *words)
    else:
        refuse(toy, *words)


def test_of_several_files_one_is_enough(toy) -> None:
    other = write(toy.with_name("other.yaml"), training={"epochs": 3})
    refuse_idle([toy, other], ["training.epochs=3"], model=RunConfig)
    with pytest.raises(UserError, match="changes nothing"):
        refuse_idle([other], ["training.epochs=3"], model=RunConfig)


# ---- quick ----------------------------------------------------------------------------------


def test_quick_takes_one_seed_unless_told(toy) -> None:
    quick = load_config(toy, ["quick=true"], model=RunConfig)
    assert quick.seeds == (1,)
    assert [c.hash for c in quick.cells()] == [
        c.hash for c in load_config(toy, ["quick=true", "seeds=[1]"], model=RunConfig).cells()
    ]
    for seeds in ("seeds=[1]", "seeds=[2,3]"):
        refuse(toy, "quick=true", seeds)
    assert load_config(toy, ["quick=true", "seeds=[2,3]"], model=RunConfig).seeds == (2, 3)
    assert load_config(toy, ["seeds.0=5", "quick=true"], model=RunConfig).seeds == (5, 2, 3)
