"""Text-aligned learners without what they need, in streams of both kinds: refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.errors import UserError
from multimodal.recordings import Manifest
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_chords, toy_data, toy_manifest

SCENARIOS = {
    "class_incremental": {"num_experiences": 2},
    "si_blurry": {"num_tasks": 2, "eval_period": 4},
}
FILES = {
    "good.yaml": 'templates: ["{}", "a {}"]',
    "nothing.yaml": "",
    "none.yaml": "templates: []",
    "bare.yaml": "templates: [a sound]",
    "few.yaml": "tone_0: low\ntone_1: higher\ntone_9: none",
    "blank.yaml": "tone_0: ''",
    "more.yaml": "\n".join(f"tone_{i}: tone {i}" for i in range(9)),
}


@DATASETS.register("toy_texts")
class ToyTextsConfig(DatasetConfig):
    """Tones or chords, of which only the first ``texts`` training recordings have a text."""

    synthetic: ClassVar[bool] = True
    summary: ClassVar[str] = "tones with texts"

    chords: bool = False
    texts: int = 0

    def build(self, root: Path) -> Manifest:
        manifest = toy_chords(train=16, test=8) if self.chords else toy_manifest()
        train = set(manifest.indices("train")[: self.texts].tolist())
        none = " " if self.texts else ""
        rows = [
            replace(r, text=f"text {i % 5}" if i in train else none) for i, r in enumerate(manifest)
        ]
        return replace(manifest, recordings=tuple(rows))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(params=SCENARIOS)
def cells(request, files: Path, tmp_path: Path, monkeypatch) -> Callable[..., Cells]:
    monkeypatch.chdir(files)

    def make(dataset: dict[str, Any], **fields: Any) -> Cells:
        learner = {"name": "cwcl", "text": {"checkpoint": "bert", "max_length": 16}, **fields}
        data = toy_data(
            # What is wrong with the second learner stops the first one too.
            learners=["finetune", learner],
            dataset={"name": "toy_texts", **dataset},
            scenario={"name": request.param, **SCENARIOS[request.param]},
            output_dir=str(tmp_path),
            quick=True,
        )
        return Cells(validate(RunConfig, data, source="x"))

    return make


TEXTS = {"captions": "text", "templates": "good.yaml"}
WITHOUT = r"'cwcl': captions=text, but {} .* have no text: '.*; write texts, or set captions=labels"
BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, TEXTS, WITHOUT.format("32 of 32")),
    ({"texts": 31}, TEXTS, WITHOUT.format("1 of 32")),
    ({"chords": True}, TEXTS, WITHOUT.format(r"\d+ of \d+")),
    ({"chords": True, "texts": 9}, TEXTS, WITHOUT.format(r"\d+ of \d+")),
    ({}, {"templates": "gone.yaml"}, r"gone\.yaml: cannot read the prompts"),
    ({}, {"templates": "speach"}, "unknown template file 'speach'; did you mean 'speech'"),
    ({}, {"templates": "nothing.yaml"}, r"nothing\.yaml: .* found NoneType; write templates: "),
    ({}, {"templates": "none.yaml"}, r"none\.yaml: templates: .* at least 1 item"),
    ({}, {"templates": "bare.yaml"}, r"bare\.yaml: templates: 'a sound' needs one placeholder {}"),
    ({}, {"phrases": "gone.yaml"}, r"gone\.yaml: cannot read the prompts"),
    ({}, {"phrases": "spoken_request"}, "unknown file of phrases .* 'spoken_requests'"),
    ({}, {"phrases": "nothing.yaml"}, r"nothing\.yaml: .* a line CLASS: words of each class"),
    ({}, {"phrases": "blank.yaml"}, r"blank\.yaml: phrases: .* class 'tone_0' is empty"),
    (
        {},
        {"phrases": "few.yaml"},
        r"phrases lack 2 of 4 classes: 'tone_2', 'tone_3' \(it has 'tone_9', no class here\); add",
    ),
    ({"chords": True}, {"phrases": "few.yaml"}, "phrases lack 2 of 4 classes"),
    ({}, {"text": {"checkpoint": "gone"}}, "checkpoint 'gone' is not a folder"),
]


@pytest.mark.parametrize(("dataset", "fields", "words"), BAD)
def test_it_is_refused_before_anything_trains(
    cells, tmp_path: Path, dataset: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        cells(dataset, **fields)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("config.yaml"))


HERDING = {
    "si_blurry": (9, "'cwcl': policy=herding orders recordings .* use reservoir or class_balanced"),
    "class_incremental": (3, "'cwcl', memory_size=3: herding keeps .* of the 4 classes; give 4"),
}


def test_so_is_a_memory_that_the_stream_cannot_fill(cells, tmp_path: Path, request) -> None:
    size, words = HERDING[request.node.callspec.params["cells"]]
    with pytest.raises(UserError, match=words) as caught:
        cells({}, policy="herding", memory_size=size)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("config.yaml"))


def test_test_recordings_need_no_text_and_files_may_serve_other_classes_too(cells) -> None:
    for dataset in ({"texts": 32}, {"chords": True, "texts": 16}):
        result = cells(dataset, **TEXTS, phrases="more.yaml").run_cell(1)
        assert result.learner == "cwcl"
