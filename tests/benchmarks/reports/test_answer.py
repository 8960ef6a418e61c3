"""A report answers first; what follows the table is told of the same numbers, and what it stands on
comes last, folded.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import precision_recall_fscore_support

from benchmarks.reports.answer import results_table, sentence
from benchmarks.reports.figures.clinical import clinical, counted
from benchmarks.reports.figures.losses import losses
from benchmarks.reports.figures.references import beside_published, references
from benchmarks.reports.page import page, write_html
from benchmarks.reports.ranking import ranked
from benchmarks.reports.tables import by_learner
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import Result
from tests.benchmarks.fake_results import JOINT, make_result


def runs(seeds: int = 3, **heights: float) -> list[Result]:
    """Learners whose average accuracy is their height, and 1 point less each further seed."""
    found = []
    for name, height in (heights or {"er": 0.8, "replay": 0.5, "finetune": 0.2}).items():
        for seed in range(seeds):
            run = make_result(name, seed)
            own = {"average_accuracy": height - 0.01 * seed}
            found.append(replace(run, metrics={**run.metrics, **own}))
    return found


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", "", html).split())


# ---- the sentence ---------------------------------------------------------------------------


def test_the_best_the_next_and_the_bound() -> None:
    text = words(sentence(ranked([*runs(), JOINT, *runs(majority=0.1)])))
    assert text.startswith("er is best of 4: average accuracy 79.0 ± 2.5 %. Next is replay with 49")
    assert "over the 3 seeds of both the first is 30.0 ± 0.0 points ahead: the seeds tell" in text
    assert "Joint training (joint), the upper bound, reaches 83.3 %." in text
    assert "Always the most frequent class: 9.0 ± 2.5 %." in text


def test_what_seeds_do_not_tell_apart_is_said() -> None:
    near = runs(er=0.51, replay=0.50)
    near[0] = replace(near[0], metrics={**near[0].metrics, "average_accuracy": 0.60})
    assert "do not tell them apart" in words(sentence(ranked(near)))
    few = words(sentence(ranked(runs(seeds=2))))
    assert "too few seeds to tell them apart" in few
    assert "79.5 % (80.0; 79.0)" in few
    assert "One seed only" in words(sentence(ranked(runs(seeds=1))))


def test_of_errors_the_lowest_is_best() -> None:
    found = [
        replace(run, metrics={"word_error_rate": run.metrics["average_accuracy"]}) for run in runs()
    ]
    text = words(sentence(ranked(found)))
    assert text.startswith("finetune is lowest of 3: word error rate 19.0")
    assert "30.0 ± 0.0 points ahead" in text


def test_there_is_nothing_to_say_of_no_metric() -> None:
    assert sentence(ranked([make_result(metrics={})])) == ""


def test_the_best_of_each_column_is_marked_and_its_column_is_first() -> None:
    html = results_table(ranked([*runs(), JOINT]))
    heads = re.findall(r"<th scope=\"col\"><span>(.*?)</span>", html)
    assert heads[:2] == ["learner", "average accuracy ▾"]
    marked = re.findall(r"<tr><th scope=\"row\"><span>([^<]*)</span></th>(.*?)</tr>", html)
    first = {name: cells.startswith('<td class="best">') for name, cells in marked}
    assert first == {"joint (upper bound)": False, "er": True, "replay": False, "finetune": False}


def test_the_page_begins_with_the_answer_and_ends_with_what_it_stands_on() -> None:
    text = page([*runs(), JOINT])
    places = [
        text.index(part)
        for part in ('class="answer"', "<h3>Results", "over the classes exposed so far",
                     "Told apart", "matrices</h3>", "<h3>Stream", "Where these numbers come from")
    ]  # fmt: skip
    assert places == sorted(places)
    tail = text[places[-1] :]
    assert "Content hash" in tail
    assert "Content hash" not in text[: places[-1]]
    assert tail.index("<details>") < tail.index("Content hash")  # folded


# ---- losses ---------------------------------------------------------------------------------


def test_losses_are_means_of_seeds_and_bins(tmp_path: Path) -> None:
    two = runs(seeds=2, er=0.5)
    for run, scale in zip(two, (1.0, 3.0), strict=True):
        folder = tmp_path / run.config_hash
        folder.mkdir()
        lines = [{"step": s, "metrics": {"loss": scale * s}} for s in range(10, 61, 10)]
        broken = ['{"step": 5', json.dumps({"step": 7, "metrics": {"test": 1}}), "[]"]
        text = "\n".join([*map(json.dumps, lines), *broken])
        (folder / "metrics.jsonl").write_text(text)
    html = losses(by_learner(two), tmp_path)
    found = re.search("<desc>er: (.*?)[.]</desc>", html)
    assert found is not None
    points = dict(pair.split(": ") for pair in found[1].split(", "))
    assert {int(x): float(y) for x, y in points.items()} == {s: 2 * s for s in range(10, 61, 10)}
    assert ">loss</text>" in html
    assert losses(by_learner(two), tmp_path / "elsewhere") == ""
    assert "Training loss" in write_html(two, tmp_path / "report.html").read_text()


# ---- medical classes ------------------------------------------------------------------------


def cells(html: str) -> dict[str, list[str]]:
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", html)
    return {words(name): re.findall("<td>(.*?)</td>", row) for name, row in rows}


def test_clinical_numbers_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    true, said = random.integers(0, 3, 500), random.integers(0, 3, 500)
    matrix = np.zeros((3, 3), dtype=int)
    np.add.at(matrix, (true, said), 1)
    metrics = {
        "confusion_matrix": matrix.tolist(),
        "one_vs_rest_auroc": {"N": 0.9, "V": 0.8, "S": None},
    }
    run = make_result(classes=("N", "V", "S"), modality="ecg", metrics=metrics, num_test=(9, 9, 9))
    found = cells(clinical({"er": [run]}))
    precision, recall, f1, support = precision_recall_fscore_support(true, said)
    for c, name in enumerate("NVS"):
        other = (said != c)[true != c].mean()
        area = {"N": "90.0", "V": "80.0", "S": "–"}[name]
        assert found[name] == [
            str(support[c]),
            str(500 - support[c]),
            *(f"{100 * v:.1f}" for v in (recall[c], other, precision[c], f1[c])),
            area,
            str(matrix[c, c]),
            str(support[c] - matrix[c, c]),
            str((said == c).sum() - matrix[c, c]),
        ]
    assert clinical({"er": [replace(run, modality="speech")]}) == ""


def test_answers_of_no_class_are_missed_and_no_false_alarms() -> None:
    run = make_result(classes=("a", "b"), num_test=(4, 4), modality="xray")
    run = replace(run, metrics={"confusion_matrix": [[3, 0, 1], [1, 2, 0]]})
    assert [tuple(each) for each in counted([run])] == [(3, 1, 1, 2), (2, 1, 0, 4)]


def test_of_multi_label_data_counts_stand_there_without_a_threshold() -> None:
    metrics = {
        "per_class_auroc": {"a": 0.7, "b": None},
        "per_class_counts": {"a": [3, 9], "b": [0, 12]},
    }
    run = make_result(classes=("a", "b"), num_test=(4, 4), modality="xray", metrics=metrics)
    assert cells(clinical({"er": [run]})) == {"a": ["3", "9", *"––––", "70.0", *"–––"]}
    told = {**metrics, "per_class_confusion": {"a": [2, 1, 3, 6], "b": [0, 0, 1, 11]}}
    found = cells(clinical({"er": [replace(run, metrics=told)]}))
    assert found["a"] == ["3", "9", "66.7", "66.7", "40.0", "50.0", "70.0", "2", "1", "3"]
    assert found["b"][2] == "–"


# ---- published figures ----------------------------------------------------------------------


def test_every_published_table_is_whole() -> None:
    assert references()
    for each in references():
        assert each.source
        assert each.evidence
        assert each.differs
        assert set(each.metrics) <= set(METRICS)
        for values in each.rows.values():
            assert len(values) == len(each.datasets)
            assert {len(own) for own in values} == {len(each.metrics)}


def test_only_the_same_data_and_stream_are_beside_it() -> None:
    run = make_result()
    run = replace(
        run,
        dataset={**run.dataset, "name": "medmnist-organamnist"},
        config={**run.config, "scenario": {"name": "class_incremental", "num_experiences": 4}},
    )
    html = beside_published([run], ranked([run]))
    found = cells(html)
    assert found["iCaRL (published)"] == ["63.0"]
    assert found["replay (ours)"] == [f"{100 * run.metrics['last_accuracy']:.1f}"]
    assert "What differs: theirs is a ResNet18" in html
    others = [
        replace(run, quick=True),
        replace(run, dataset={**run.dataset, "name": "fsdd"}),
        replace(run, config={**run.config, "scenario": {"num_experiences": 5}}),
    ]
    assert [beside_published([other], ranked([other])) for other in others] == ["", "", ""]


@pytest.mark.parametrize("name", ["slurp_3", "slurp_6", "lifelonger"])
def test_shipped_configs_have_the_streams_of_the_published_tables(name: str) -> None:
    shipped = {"lifelonger": "medmnist_class_incremental"}.get(name, f"{name}_coconut")
    config = yaml.safe_load((Path("configs/bench") / f"{shipped}.yaml").read_text("utf-8"))
    (each,) = [r for r in references() if all(
        config["scenario"].get(k.removeprefix("scenario.")) == v for k, v in r.where.items())
        and any(config["dataset"]["name"] in d for d in r.datasets)]  # fmt: skip
    assert each.metrics
