"""`medley encoders|learners|objectives list|describe` and `medley configs list|copy`."""

from __future__ import annotations

import pytest
import yaml

from benchmarks.commands.choices import REGISTRIES, summary
from benchmarks.config.settings import shipped_configs


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_choice_is_listed_with_a_sentence_and_described(kind: str, medley) -> None:
    registry = REGISTRIES[kind]()
    listed = medley(kind, "list").out
    for name in registry.names():
        assert f" {name} " in listed
        words = summary(registry.config(name))
        assert words.endswith(".")
        assert 20 < len(words) < 200
        described = medley(kind, "describe", name).out
        for key in registry.config(name).model_fields:
            assert key in described


def test_an_unknown_name_is_corrected(medley) -> None:
    outcome = medley("learners", "describe", "err")
    assert outcome.code == 2
    assert "unknown learner 'err'; did you mean 'er'?" in outcome.err


def test_shipped_configs_are_listed_and_copied(medley, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = medley("configs", "list").out
    assert all(f" {name} " in listed for name in shipped_configs())
    outcome = medley("configs", "copy", "bench/own_folder")
    assert outcome.code == 0
    assert "medley bench own_folder.yaml" in outcome.out
    copied = yaml.safe_load((tmp_path / "own_folder.yaml").read_text())
    assert copied["experiment"] == "own_folder"
    again = medley("configs", "copy", "bench/own_folder")
    assert (again.code, again.err) == (
        2,
        "error: own_folder.yaml is there already; give another name to write to.\n",
    )
    assert medley("configs", "copy", "configs/align/covid_xray.yaml", "my.yaml").code == 0
    assert (tmp_path / "my.yaml").is_file()
    wrong = medley("configs", "copy", "bench/own_foldr").err
    assert "did you mean 'bench/own_folder'?" in wrong


def test_a_config_that_is_misspelt_is_corrected(medley) -> None:
    outcome = medley("bench", "bench/fsd_cwcl")
    assert outcome.code == 2
    assert "did you mean 'bench/fsdd_cwcl'?" in outcome.err
