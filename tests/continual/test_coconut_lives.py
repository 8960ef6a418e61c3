"""Learners with COCONUT's contrast: how they go on after a stop, online streams, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from continual.learner import LEARNERS
from continual.online import refuse_unfit
from continual.recall import Recollection
from multimodal.errors import UserError
from tests.continual.coconut_lives import TEMPLATES, Life, build, one_by_one
from tests.continual.test_coconut_learner import BOTH, KD, taught
from tests.multimodal.encoders.checkpoints import save_text_checkpoint

TEXT_LORA = {"lora": {"rank": 2, "dropout": 0.0}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    (folder / "templates.yaml").write_text(TEMPLATES)
    return folder


@pytest.fixture
def begin(data, files) -> Any:
    def make(name: str, *, several: bool = False, **own: Any) -> Life:
        learner = build(data, files, name, several=several, **own)
        return Life(learner, data, one_by_one(data), several=several)

    return make


def same(one: Any, other: Any) -> None:
    """Every tensor and value of two states, bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(torch.nan_to_num(one, 9.0), torch.nan_to_num(other, 9.0))
    else:
        assert one == other


ALIGNED: dict[str, dict[str, Any]] = {
    "all terms": KD["coconut_aligned"],
    "several labels": {"several": True, **KD["coconut_aligned"]},
    "running mean": {"teacher": "ema", "ema_decay": 0.9, "feature_kd": 1.0},
    "every 9 recordings": {"teacher": 9, "answer_kd": 1.0, "policy": "reservoir"},
    "frozen, whitened": {"encoder": "none", "head": {"whiten": True}, "answer_kd": 1.0},
    "whitened running mean": {"encoder": "none", "head": {"whiten": True}, "teacher": "ema"},
    "lora, texts too": {"encoder": "lora", "text": TEXT_LORA, "text_nspt": True},
    "herding, own texts": {"policy": "herding", "captions": "text"},
    "no memory": {"memory_size": 0},
}
WRITES: dict[str, dict[str, Any]] = {
    "all terms": KD["coconut"],
    "running mean": {"teacher": "ema", "ema_decay": 0.9, "token_kd": 1.0},
    "every 9 recordings": {"teacher": 9, "audio_kd": 1.0},
    "dropped merges": {"decoder": {"bpe_dropout": 0.0, "dropout": 0.1}, "text_pool": "mean"},
}
# Each differs from one that is tried every time in what another test looks at, too.
SLOW = ("running mean", "frozen, whitened", "herding, own texts", "no memory")
BY_NAME = {"coconut": WRITES, "coconut_aligned": ALIGNED}
WAYS = [
    pytest.param(name, way, id=f"{name}, {kind}", marks=[pytest.mark.slow] if kind in SLOW else [])
    for name, ways in BY_NAME.items()
    for kind, way in ways.items()
]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_life_that_stops_in_its_third_experience_ends_the_same(
    begin, name, way, tmp_path
) -> None:
    whole, cut, rest = (begin(name, **way) for _ in range(3))
    for life in (whole, cut):
        life.experience(0)
        life.experience(1)
    whole.experience(2)
    cut.learner.begin_experience(cut.info(2))
    cut.steps(2, 0, 2)
    rest.go_on(cut, tmp_path / "x.pt")
    rest.experience(2, first=2)
    same(rest.learner.state_dict(), whole.learner.state_dict())
    assert whole.learner.task == 3
    assert rest.terms[-1].keys() == whole.terms[-1].keys()
    same(rest.terms[-1], whole.terms[-1])


@pytest.mark.parametrize("kind", ["task", "ema", 9])
@pytest.mark.parametrize("name", BOTH)
def test_online_it_goes_on_in_the_middle_and_at_a_border(begin, name, kind, tmp_path) -> None:
    own: dict[str, Any] = {"teacher": kind, "policy": "reservoir"}
    whole, cut, rest, ends = (begin(name, **own) for _ in range(4))
    for life in (whole, cut):
        life.steps(0, 0, 3, online=True)
    ends.go_on(cut, tmp_path / "border.pt")  # the last step is done, the task has not ended
    for life in (whole, cut, ends):
        life.learner.end_experience(life.info(0))
    same(ends.learner.state_dict(), whole.learner.state_dict())
    assert len(whole.learner.memory) == 6
    cut.steps(1, 0, 1, online=True)
    rest.go_on(cut, tmp_path / "middle.pt")
    whole.steps(1, 0, 3, online=True)
    rest.steps(1, 1, 3, online=True)
    same(rest.learner.state_dict(), whole.learner.state_dict())
    seen = [bool(taught(terms)) for terms in whole.terms]
    # A copy after 12 recordings; a running mean from the first step on, once there is a memory.
    wanted = {"task": [0, 0, 0, 1, 1, 1], "ema": [0, 1, 1, 1, 1, 1], 9: [0, 0, 1, 1, 1, 1]}
    assert seen == [bool(x) for x in wanted[kind]]


@pytest.mark.parametrize("name", BOTH)
def test_a_teacher_that_moves_is_asked_anew(begin, name) -> None:
    for kind in ("ema", 9):
        life = begin(name, teacher=kind)
        life.experience(0)
        life.learner.begin_experience(life.info(1))
        life.steps(1, 0, 2)
        life.learner.model.eval()
        parts = life.parts(1, 2)
        value = life.learner.loss(*parts).terms["nspt_signal"]
        life.learner.augment = lambda batch: batch  # so that the teacher reads what it is given
        assert value == life.learner.loss(*parts).terms["nspt_signal"]
        assert life.learner._kept is None


def test_a_whitened_teacher_reads_as_the_student_does(begin) -> None:
    """Of a task, the whitening of its time; of a running mean, the student's own."""
    way = {"encoder": "none", "head": {"whiten": True}}
    moves = begin("coconut_aligned", teacher="ema", **way)
    stays = begin("coconut_aligned", **way)
    for life in (moves, stays):
        life.experience(0)
        then = life.learner.model.tower.whitening.matrix.clone()
        life.experience(1, last=2)
        life.learner.begin_experience(life.info(2))
        life.steps(2, 0, 2)
        now = life.learner.model.tower.whitening.matrix
        assert not torch.equal(then, now)
        own = life.learner.teacher.model.tower.whitening.matrix
        assert torch.equal(own, now) == (life is moves)


def test_texts_that_are_trained_learn_from_the_classes_too(begin) -> None:
    life = begin("coconut_aligned", text=TEXT_LORA, nspt=0, mm=0)
    life.experience(0)  # of one class: nothing is told apart yet
    life.experience(1)
    places = [n for n, p in life.learner.model.named_parameters() if "text.encoder" in n]
    assert any("lora_B" in n for n in places)
    trained = dict(life.learner.model.named_parameters())
    assert any(trained[n].abs().sum() > 0 for n in places if "lora_B" in n)


# ---- what was made of the memory ------------------------------------------------------------


def test_what_was_made_of_rows_is_found_again() -> None:
    rows = torch.randperm(90)[:70] * 3
    reads: list[int] = []

    def read(some: torch.Tensor) -> Any:
        reads.append(len(some))
        return some

    def make(some: Any) -> dict[str, torch.Tensor]:
        return {"a": some * 2, "b": some[:, None] + 1.0}

    found = Recollection.made(rows, read, make)
    assert reads == [32, 32, 6]
    again = Recollection.from_state(found.state_dict(), torch.device("cpu"))
    asked = rows[torch.tensor([3, 60, 3, 0])]
    for one in (found, again):
        assert torch.equal(one.of(asked)["a"], 2 * asked)
        assert torch.equal(one.of(asked)["b"], asked[:, None] + 1.0)


# ---- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"nspt": 0, "nspt_variant": "bounded"}, "nspt_variant=bounded has no effect with nspt=0"),
        ({"mm": 0, "mm_scope": "all"}, "mm_scope=all has no effect with mm=0"),
        ({"mm": 0, "nspt": 0, "temperature": 0.2}, "temperature=0.2 has no effect with nspt=0 and"),
        ({"nspt": 0, "teacher": "ema"}, "teacher=ema has no effect"),
        ({"ema_decay": 0.9}, "ema_decay=0.9 has no effect with teacher=task"),
        ({"KD": 1.0, "memory_size": 0}, "KD=1.0 distils on the memory; set memory_size"),
        ({"KD": 1.0, "memory_size": 4, "teacher": 9}, "teacher=9: KD distils"),
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_settings_without_effect_are_refused(name, own, words) -> None:
    kept = LEARNERS.config(name).kd_stored  # pyright: ignore[reportAttributeAccessIssue]
    given = {kept if key == "KD" else key: value for key, value in own.items()}
    with pytest.raises(ValidationError, match=words.replace("KD", kept)):
        LEARNERS.parse({"name": name, **given})


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"text_nspt": True}, "text_nspt=True has no effect with a frozen text side"),
        ({"text_nspt": True, "width": 8, "nspt": 0}, "text_nspt=True has no effect with nspt=0"),
        ({"mm_positive": "paired"}, "recordings of a class share their text"),
    ],
)
def test_so_are_those_that_class_prompts_leave_without(own, words) -> None:
    with pytest.raises(ValidationError, match=words):
        LEARNERS.parse({"name": "coconut_aligned", **own})


def test_and_those_that_the_data_and_the_encoder_do(begin) -> None:
    with pytest.raises(UserError, match=r"overlap=jaccard: .* one label each"):
        begin("coconut_aligned", overlap="jaccard")
    with pytest.raises(UserError, match=r"feature_kd=1.0: .* frozen encoder"):
        begin("coconut_aligned", feature_kd=1.0, encoder="none")
    begin("coconut_aligned", overlap="jaccard", several=True)


@pytest.mark.parametrize("name", BOTH)
def test_what_is_kept_at_an_experiences_end_needs_one(begin, name) -> None:
    stored = "sequence_kd" if name == "coconut" else "label_kd"
    with pytest.raises(UserError, match=f"'{name}': {stored} distils .* no experiences"):
        refuse_unfit(begin(name, **{stored: 1.0}).learner, name)
    refuse_unfit(begin(name).learner, name)


@pytest.mark.parametrize(
    ("name", "own", "row"),
    [
        ("coconut", {}, "coconut"),
        ("coconut", {"nspt": 0, "mm": 0, "audio_kd": 1.0}, "seq2seq + audio-KD"),
        ("coconut", {"sequence_kd": 1.0}, "coconut + sequence-KD"),
        ("coconut", {"mm": 0}, "seq2seq + NSPT"),
        ("coconut_aligned", {}, "coconut_aligned"),
        ("coconut_aligned", {"nspt": 0, "mm": 0}, "aligned ER"),
        ("coconut_aligned", {"nspt": 0, "mm": 0, "feature_kd": 1.0}, "aligned ER + feature-KD"),
        ("coconut_aligned", {"nspt": 0, "head": {"whiten": True}}, "aligned ER + MM, whitened"),
        ("coconut_aligned", {"nspt": 0, "mm": 0, "memory_size": 0}, "aligned fine-tuning"),
    ],
)
def test_what_rows_are_called(name, own, row) -> None:
    assert LEARNERS.parse({"name": name, "memory_size": 4, **own}).row_name == row
