"""Names, parameters, batches and the plot that a tracking store is given."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.reports.pictures import heat_map
from benchmarks.results.journal import Line
from benchmarks.tracking.points import apart, batches, flat_params, matrix_table, metric_name


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
@example("..0")
def test_metric_names_are_what_mlflow_allows(name):
    from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

    clean = metric_name(name)
    _validate_metric_name(clean)
    _validate_length_limit("name", 250, clean)
    assert metric_name(clean) == clean


def test_metric_names_stay_readable_and_apart():
    assert metric_name("Top1_Acc_Stream/eval_phase/test_stream") == (
        "Top1_Acc_Stream/eval_phase/test_stream"
    )
    assert metric_name("/a//b/") == "a/b"
    long = "x" * 300
    assert metric_name(long + "a") != metric_name(long + "b")


def test_classes_of_like_names_are_metrics_of_their_own():
    names = ["a$b", "a%b", "a{b", "a_b", "plain"]
    told = apart(names)
    assert len(set(told.values())) == len(names)
    assert told["plain"] == "plain"
    assert all(metric_name(clean) == clean for clean in told.values())


def test_flat_params_of_choices_and_of_single_entries():
    config = {
        "learners": [{"name": "er", "memory_size": 200}],
        "seeds": [3],
        "dataset": {"name": "fsdd", "root": None},
        "training": {"epochs": 5},
    }
    assert flat_params(config) == {
        "learner": "er",
        "learner.memory_size": "200",
        "seed": "3",
        "dataset": "fsdd",
        "dataset.root": "null",
        "training.epochs": "5",
    }
    several = {"learners": [{"name": "er"}, {"name": "lwf"}]}
    assert list(flat_params(several)) == ["learners"]


def test_flat_params():
    config = {"a": {"b": {"c": 1}, "empty": {}}, "s": "text", "l": [1, {"x": None}], "t": True}
    expected = {"a.b.c": "1", "a.empty": "{}", "s": "text", "l": '[1, {"x": null}]', "t": "true"}
    assert flat_params(config) == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1100), max_size=8))
def test_batches_keep_lines_whole_and_in_order(sizes):
    lines = [Line(i, i, {f"m{j}": 0.0 for j in range(n)}) for i, n in enumerate(sizes)]
    groups = list(batches(lines))
    assert sum(count for count, _ in groups) == len(lines)
    assert [p.step for _, ps in groups for p in ps] == [
        i for i, n in enumerate(sizes) for _ in range(n)
    ]
    assert all(len(points) <= 1000 or count == 1 for count, points in groups)
    assert Counter(p.step for _, ps in groups for p in ps) == {
        i: n for i, n in enumerate(sizes) if n
    }


def test_heat_map_shows_each_number():
    axes = heat_map([[0.5, None], [0.25, 1.0]]).axes[0]
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {
        ((0, 0), "0.50"),
        ((0, 1), "0.25"),
        ((1, 1), "1.00"),
    }
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1", "2"]


def test_the_only_row_of_joint_training_comes_after_all_experiences():
    axes = heat_map([[0.5, 0.25]]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["all"]
    table = matrix_table([[0.5, 0.25]], ["1: a", "2: b"])
    assert table == {"after": ["all"], "1: a": [0.5], "2: b": [0.25]}
