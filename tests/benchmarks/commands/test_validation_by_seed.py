"""Seeds that hold out other recordings for validation are runs of one experiment: one table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.reports.tables import comparable
from benchmarks.results.files import find_results
from continual.scenarios import SCENARIOS
from tests.toy import ToyConfig

COMMANDS = {
    "align": ["align", "align.yaml", "validation_fraction=0.25", "training.epochs=1"],
    "bench": [
        "bench",
        "tiny.yaml",
        "learners=[majority]",
        "scenario={name: class_incremental, num_experiences: 2, validation_fraction: 0.25}",
    ],
}


@pytest.mark.parametrize("command", [pytest.param("align", marks=pytest.mark.slow), "bench"])
def test_two_seeds_end_in_one_table_and_those_of_earlier_versions_join(
    medley, tones, command: str
) -> None:
    words = [*COMMANDS[command], "seeds=[1,2]"]
    outcome = medley(*words)
    assert outcome.code == 0, outcome.err
    results = find_results(tones / "runs")
    assert [len(group) for group in comparable(results)] == [2]
    rule = "; validation: 0.25 of train"
    assert all(r.dataset["split_rule"].endswith(f"{rule}, by the run's seed") for r in results)

    before = results[0].dataset["split_rule"].removesuffix("by the run's seed")
    for file, result in zip(sorted(tones.glob("runs/*/*/result.json")), results, strict=True):
        old = {**result.dataset, "split_rule": f"{before}seed {result.seed}"}
        replace(result, dataset=old).save(file.parent)
    for again in (medley("report", "runs"), medley(*words)):
        assert again.code == 0, again.err
        assert ", by the run's seed" in " ".join(again.out.split())
    third = medley(*COMMANDS[command], "seeds=[3]")
    assert third.code == 0, third.err
    assert [len(group) for group in comparable(find_results(tones / "runs"))] == [3]


def test_another_share_is_another_split(medley, tones) -> None:
    assert medley(*COMMANDS["align"]).code == 0
    words = [word.replace("0.25", "0.5") for word in COMMANDS["align"]]
    assert medley(*words).code == 0
    assert [len(group) for group in comparable(find_results(tones / "runs"))] == [1, 1]


@pytest.mark.parametrize("name", ["class_incremental", "domain_incremental"])
def test_no_scenario_names_the_seed_in_the_rule(tmp_path, name: str) -> None:
    count = {"num_experiences": 2} if name == "class_incremental" else {}
    scenario = SCENARIOS.parse({"name": name, "validation_fraction": 0.25, **count})
    manifest = ToyConfig(shared_groups=True).build(tmp_path)
    drawn = [scenario.build(manifest, seed).manifest for seed in (0, 1, 2)]  # type: ignore[attr-defined]
    assert len({m.split_rule for m in drawn}) == 1
    assert len({tuple(m.indices("validation")) for m in drawn}) > 1
