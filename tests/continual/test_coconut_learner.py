"""Learners with COCONUT's contrast: their losses part by part, their teachers, how they go on.

COCONUT itself, which writes, and its form with class prompts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.batch import Batch
from multimodal.models.vocabulary import EOS, SOS
from tests.continual.coconut_lives import NEW, OLD, TEMPLATES, Life, build, one_by_one
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.multimodal.objectives.coconut_oracle import multimodal_oracle, nspt_oracle

BOTH = ("coconut", "coconut_aligned")
KD = {
    "coconut": {"audio_kd": 0.5, "token_kd": 0.25, "sequence_kd": 2.0},
    "coconut_aligned": {"feature_kd": 0.5, "answer_kd": 0.25, "label_kd": 2.0},
}


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


def taught(terms: dict[str, Tensor]) -> set[str]:
    return {name for name in terms if name.startswith("nspt") or name.endswith("_kd")}


def second(life: Life) -> tuple[Batch, Batch]:
    """A life in its second experience, in evaluation mode, and the parts of a step there."""
    life.experience(0)
    life.learner.begin_experience(life.info(1))
    life.learner.model.eval()
    batch, memory = life.parts(1, 0)
    assert memory is not None
    return batch, memory


@pytest.mark.parametrize("name", BOTH)
def test_the_first_task_asks_no_teacher(begin, name) -> None:
    life = begin(name, **KD[name])
    life.experience(0)
    assert all(not taught(terms) and "mm" in terms for terms in life.terms)
    life.experience(1)
    signal = {"nspt_signal", "nspt_text"} if name == "coconut" else {"nspt_signal"}
    assert taught(life.terms[-1]) == {*signal, *KD[name]}
    own = {id(p) for p in life.learner.model.parameters() if p.requires_grad}
    for parameter in life.learner.teacher.model.parameters():
        assert id(parameter) not in own
        assert parameter.grad is None


@pytest.mark.parametrize("name", BOTH)
def test_what_is_switched_off_leaves_no_trace(begin, name) -> None:
    life = begin(name, nspt=0, mm=0)
    life.experience(0)
    life.experience(1)
    words = {"text"} if name == "coconut" else {"classification", "scale"}
    assert all(set(terms) == words for terms in life.terms)
    first = begin(name, mm_tasks="first")
    first.experience(0)
    first.experience(1)
    assert ["mm" in terms for terms in first.terms] == [True] * 3 + [False] * 3


# ---- the loss, part by part -----------------------------------------------------------------

NSPT = {"temperature": 0.3, "variant": "bounded", "anchors": "rehearsal", "overlap": "any"}
MM = {"temperature": 0.5, "scope": "new", "positives": "same_class", "overlap": "any"}
CONTRAST = {"nspt": 0.4, "mm": 0.7, "temperature": 0.3, "mm_temperature": 0.5}
CONTRAST = {**CONTRAST, "nspt_variant": "bounded"}


def mean(found: dict[int, float]) -> float:
    return sum(found.values()) / len(found)


def contrast(own: dict[str, Tensor], past: dict[str, Tensor], labels, rehearsal, *, one: bool):
    """MM, and NSPT of signals and of texts. past: of the memory alone."""
    forth, back, _ = multimodal_oracle(
        own["signal"], own["text"], labels, rehearsal, one_text_a_class=one, **MM
    )
    nspt = {}
    for name, some in past.items():
        every = torch.cat([torch.ones(NEW, some.shape[1]), some])
        nspt[name] = mean(nspt_oracle(own[name], every, labels, rehearsal, **NSPT))
    return forth + back, nspt


def test_every_part_of_the_loss_of_coconut(begin) -> None:
    life = begin("coconut", **CONTRAST, **KD["coconut"])
    batch, memory = second(life)
    learner, both = life.learner, Batch.join(batch, memory)
    words, student, teacher = learner.said.vocabulary, learner.model, learner.teacher.model
    found, rows = learner.loss(batch, memory), both.indices.numpy()
    strings = learner.said.targets(rows, both.labels.numpy())
    retold = learner.stored.of(memory.indices)

    def alone(model: Any, k: int, ids: list[int]) -> tuple[Any, Tensor]:
        """Tokens of a recording, and what is said to follow each of [SOS] and these ids."""
        encoded = model.encode(both.rows(k, k + 1))
        return encoded, model.teacher_forced(encoded, torch.tensor([[SOS, *ids]]))[0]

    sums, own, past = {"text": 0.0, "seq": 0.0, "token": 0.0, "audio": 0.0}, [], []
    counts = dict.fromkeys(sums, 0)
    for k, string in enumerate(strings):
        ids = words.encode(string)
        encoded, logits = alone(student, k, ids)
        logs = logits.log_softmax(1)
        sums["text"] -= sum(logs[j, v].item() for j, v in enumerate([*ids, EOS]))
        counts["text"] += len(ids) + 1
        shape = torch.tensor([ids])
        own.append((student.signal_embedding(encoded), student.text_embedding(shape)))
        if k < NEW:
            continue
        old, before = alone(teacher, k, ids)
        past.append((teacher.signal_embedding(old), teacher.text_embedding(shape)))
        sums["token"] -= (before.softmax(1) * logs).sum().item()
        counts["token"] += len(ids) + 1
        sums["audio"] += (encoded.tokens - old.tokens).square().sum().item()
        counts["audio"] += encoded.tokens.numel()
        written = retold["ids"][k - NEW, : retold["lengths"][k - NEW]].tolist()
        logs = alone(student, k, written)[1].log_softmax(1)
        sums["seq"] -= sum(logs[j, v].item() for j, v in enumerate([*written, EOS]))
        counts["seq"] += len(written) + 1
    parts = {name: sums[name] / counts[name] for name in sums}
    mine, theirs = (
        {n: torch.cat([e[i] for e in some]).detach() for i, n in enumerate(("signal", "text"))}
        for some in (own, past)
    )
    mm, nspt = contrast(mine, theirs, both.labels, torch.arange(NEW + OLD) >= NEW, one=False)
    wanted = {
        **{"text": parts["text"], "mm": mm, "mm_classes": 1.0},
        **{"nspt_signal": nspt["signal"], "nspt_text": nspt["text"], "audio_kd": parts["audio"]},
        **{"token_kd": parts["token"], "sequence_kd": parts["seq"]},
    }
    terms = {name: float(value) for name, value in found.terms.items()}
    assert terms == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    weights = {"mm": 0.7, "nspt_signal": 0.4, "nspt_text": 0.4, **KD["coconut"]}
    total = parts["text"] + sum(weights[name] * wanted[name] for name in weights)
    assert found.value.item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("captions", ["labels", "text"])
@pytest.mark.parametrize("several", [False, True], ids=["one label", "several"])
def test_every_part_of_the_loss_with_class_prompts(begin, several, captions) -> None:
    options = {"text_nspt": True, "captions": captions, **CONTRAST, **KD["coconut_aligned"]}
    life = begin("coconut_aligned", several=several, **options)
    batch, memory = second(life)
    learner, both = life.learner, Batch.join(batch, memory)
    found, labels, shown = learner.loss(batch, memory), both.labels, learner.model.exposed

    def asked(model: Any) -> dict[str, Tensor]:
        aligned, tower = model.aligned, model.tower
        cells: dict[str, list[Tensor]] = {"pooled": [], "signal": [], "text": [], "logits": []}
        for k in range(len(both)):
            pooled = tower.encode(both.rows(k, k + 1))
            signal = aligned.embed_signals(both.rows(k, k + 1))
            near = normalize(model.class_vectors()) @ normalize(signal)[0]
            if several:
                near = near - normalize(aligned.embed_texts(["no labels"])) @ normalize(signal)[0]
            cells["pooled"].append(pooled[0])
            cells["signal"].append(signal[0])
            cells["logits"].append(near * aligned.scale)
            cells["text"].append(aligned.text.projection(aligned.encode_texts([said(k)]))[0])
        return {name: torch.stack(some).detach() for name, some in cells.items()}

    def said(k: int) -> str:
        row = int(both.indices[k])
        if captions == "text":
            return f"go to {life.data.manifest.recordings[row].label} at {row % 3}"
        names = learner.model.label_sets.words if several else ("dog", "rain", "bell", "heart")
        if several:
            own = [names[c] for c in range(4) if labels[k, c] == 1 and shown[c]]
            return f"labels: {', '.join(own)}" if own else "no labels"
        return ("{}", "a {}", "sound of {}")[row % 3].format(names[labels[k]])

    mine, theirs = asked(learner.model), asked(learner.teacher.model)
    known, rehearsal = learner.teacher.model.exposed, torch.arange(NEW + OLD) >= NEW
    assert known.sum() < shown.sum() < 4
    open_labels = labels.masked_fill(~shown, 0) if several else labels
    past = {name: theirs[name][NEW:] for name in ("signal", "text")}
    one = captions == "labels"
    mm, nspt = contrast(mine, past, open_labels, rehearsal, one=one)
    logits, before = mine["logits"], theirs["logits"][NEW:, known]
    after = logits[NEW:, known]
    if several:
        cells = logits.sigmoid()[:, shown]
        right = torch.where(labels[:, shown] == 1, cells, 1 - cells)
        value = -right.log().mean()
        share = before.sigmoid()
        kept = share * after.sigmoid().log() + (1 - share) * (1 - after.sigmoid()).log()
        answer = -kept.mean()
        told = torch.where(before > 0, after.sigmoid(), 1 - after.sigmoid())
        label = -told.log().mean()
    else:
        logs = logits[:, shown].log_softmax(1)
        place = shown.cumsum(0) - 1
        value = -torch.stack([row[place[c]] for row, c in zip(logs, labels, strict=True)]).mean()
        answer = -(before.softmax(1) * after.log_softmax(1)).sum(1).mean()
        best = place[known.nonzero()[:, 0][before.argmax(1)]]
        label = -torch.stack([row[c] for row, c in zip(logs[NEW:], best, strict=True)]).mean()
    feature = (mine["pooled"][NEW:] - theirs["pooled"][NEW:]).square().mean()
    wanted = {
        **{"classification": float(value), "mm": mm, "nspt_signal": nspt["signal"]},
        **{"nspt_text": nspt["text"], "feature_kd": float(feature), "answer_kd": float(answer)},
        **{"label_kd": float(label)},
    }
    terms = {name: float(found.terms[name]) for name in wanted}
    assert terms == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    weights = {"mm": 0.7, "nspt_signal": 0.4, "nspt_text": 0.4, **KD["coconut_aligned"]}
    total = wanted["classification"] + sum(weights[name] * wanted[name] for name in weights)
    assert found.value.item() == pytest.approx(total, rel=1e-4)
    assert found.outputs is not None
    assert torch.equal(found.outputs.isinf().any(0), ~shown)


# ---- the memory and the teacher -------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_rehearsal_is_what_the_loader_says_not_the_label(begin, name) -> None:
    """Both parts of the step have recordings of both classes."""
    life = begin(name, **CONTRAST)
    second(life)
    learner, (one, other) = life.learner, (life.stream.experiences[i].train for i in (0, 1))
    learner.augment = lambda batch: batch  # so that the teacher reads what it is given
    both = life.gather(torch.tensor([*one[:3], *other[:3], *one[3:5], *other[3:5]]))
    term = learner.loss(*both.split(NEW)).terms["nspt_signal"]
    mine, theirs = (
        model.signal_embedding(model.encode(both))
        if name == "coconut"
        else model.aligned.embed_signals(both)
        for model in (learner.model, learner.teacher.model)
    )
    found = nspt_oracle(mine, theirs, both.labels, torch.arange(NEW + OLD) >= NEW, **NSPT)
    assert sorted(found) == [6, 7, 8, 9]
    assert float(term) == pytest.approx(mean(found), rel=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_what_the_teacher_made_once_is_what_it_makes_again(begin, name) -> None:
    life = begin(name, **CONTRAST)
    batch, memory = second(life)
    once = life.learner.loss(batch, memory)
    assert life.learner._kept is not None
    life.learner.read = None  # it needs no more
    assert life.learner.loss(batch, memory).value == once.value
    life.learner.augment = lambda batch: batch  # from now on the teacher reads what it is given
    live = life.learner.loss(batch, memory)
    torch.testing.assert_close(live.value, once.value, atol=1e-5, rtol=1e-5)
    life.learner.end_experience(life.info(1))
    assert life.learner._kept is None


def test_texts_of_the_teacher_regenerate_from_what_is_saved(begin, tmp_path) -> None:
    life, again = (begin("coconut", sequence_kd=1.0) for _ in range(2))
    life.experience(0)
    life.experience(1, last=2)
    again.go_on(life, tmp_path / "x.pt")
    rows = life.learner.memory.indices
    found = again.learner.say(life.gather(rows))
    kept = again.learner.stored.of(rows)
    assert all(torch.equal(found[name], kept[name]) for name in ("ids", "lengths"))
    assert len(rows) == 6
