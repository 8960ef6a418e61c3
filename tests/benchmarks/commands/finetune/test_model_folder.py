"""The result folder for others: plain PEFT, ``medley merge``, and what goes on from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from benchmarks.results.model_folder import open_model
from multimodal.batch import Batch
from tests.benchmarks.commands.finetune_text import FINETUNE, results
from tests.multimodal.encoders import audio_checkpoints

KINDS = {"whisper": audio_checkpoints.whisper, "wav2vec2": audio_checkpoints.waveform}
WITHIN = {"whisper": "encoder", "wav2vec2": ""}


@pytest.fixture(params=KINDS)
def kind(request, tuned) -> str:
    """``base/`` is a checkpoint, which ``tune.yaml`` names."""
    (tuned / "base").mkdir()
    torch.manual_seed(0)
    KINDS[request.param](tuned / "base")
    encoder = "encoder: {name: pretrained, checkpoint: base}\nmodality: {sample_rate: 16000}"
    text = FINETUNE.replace("encoder: {name: compact, width: 16, depth: 1, heads: 2}", encoder)
    (tuned / "tune.yaml").write_text(text)
    return request.param


def model_of(place: Path) -> Path:
    (file,) = place.glob("runs/tuned/*/result.json")
    return file.parent / "model"


def some(seconds: float = 1.0) -> Batch:
    signals = torch.randn(3, 1, int(16000 * seconds), generator=torch.Generator().manual_seed(2))
    unused = torch.zeros(3, dtype=torch.int64)
    return Batch(signals, unused + signals.shape[2], unused, unused)


def plain_pooled(plain: nn.Module, opened: Any, batch: Batch) -> torch.Tensor:
    """What transformers' own object makes of the same features: the mean of its tokens."""
    features = opened.model.front_end(batch)
    values = features.values
    if values.shape[1] == 1:  # (N, 1, T) samples
        values = values[:, 0]
    with torch.no_grad():
        return plain(values).last_hidden_state.mean(1)


def tune(medley: Any, *words: str, rate: float = 0.05) -> None:
    outcome = medley("finetune", "tune.yaml", f"training.learning_rate={rate}", *words)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_plain_peft_loads_the_adapter(medley, tuned, kind: str, method: str) -> None:
    import peft

    tune(medley, f"methods=[{{name: {method}, rank: 4}}]")
    folder = model_of(tuned)
    assert not (folder / "encoder.safetensors").exists()
    opened, batch = open_model(folder), some()
    whole = transformers.AutoModel.from_pretrained(tuned / "base").eval()
    base = whole.get_submodule(WITHIN[kind]) if WITHIN[kind] else whole
    before = plain_pooled(base, opened, batch)
    theirs = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    found, ours = plain_pooled(theirs, opened, batch), opened.embed(batch)
    torch.testing.assert_close(found, ours, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, ours, atol=1e-3)
    facts = opened.facts
    assert facts.base is not None
    assert facts.base.within == WITHIN[kind]
    assert facts.base.model_class == type(base).__name__
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tuned / "base")
    assert sorted(settings["target_modules"]) == sorted(facts.target_modules)
    assert type(base).__name__ in (folder / "README.md").read_text()


@pytest.mark.parametrize("method", ["dora", "full", "head"])
def test_a_merged_folder_needs_no_peft(medley, tuned, kind: str, method: str) -> None:
    tune(medley, f"methods=[{method}]")
    opened, batch = open_model(model_of(tuned)), some(0.6)
    outcome = medley("merge", str(model_of(tuned).parent), "--out", "merged")
    assert outcome.code == 0, outcome.err
    assert "AutoModel.from_pretrained" in outcome.out
    assert not any((tuned / "merged").glob("adapter*"))
    assert "merged by" in (tuned / "merged/README.md").read_text()
    again = open_model(tuned / "merged")
    assert type(again.model.encoder).__name__ == "PretrainedEncoder"
    torch.testing.assert_close(again.embed(batch), opened.embed(batch), atol=1e-5, rtol=1e-5)
    expected = opened.predict_scores(batch)
    torch.testing.assert_close(again.predict_scores(batch), expected, atol=1e-5, rtol=1e-5)
    whole = transformers.AutoModel.from_pretrained(tuned / "merged").eval()
    plain = whole.get_submodule(WITHIN[kind]) if WITHIN[kind] else whole
    batch = some()
    found = plain_pooled(plain, again, batch)
    torch.testing.assert_close(found, opened.embed(batch), atol=1e-5, rtol=1e-5)
    # It is a checkpoint as any other, also for Medley.
    (tuned / "base").rename(tuned / "gone")
    tune(medley, "encoder.checkpoint=merged", "methods=[head]")
    outcome = medley("merge", "merged", "--out", "merged")
    assert outcome.code == 2
    assert "--out merged: exists and is not empty" in outcome.err


def test_compact_encoders_stand_alone(medley, tuned) -> None:
    tune(medley, "methods=[dora]")
    opened, batch = open_model(model_of(tuned)), some(0.2)
    outcome = medley("merge", str(model_of(tuned)), "--out", "merged")
    assert "no transformers model" in outcome.out
    again = open_model(tuned / "merged")
    assert not any((tuned / "merged").glob("adapter*"))
    expected = opened.predict_scores(batch)
    torch.testing.assert_close(again.predict_scores(batch), expected, atol=1e-5, rtol=1e-5)
    assert "No PEFT adapter" not in (model_of(tuned) / "README.md").read_text()


def test_an_experiment_with_one_run_is_its_model(medley, tuned) -> None:
    """As for ``predict`` and ``init``; and a card is no part of what a model needs."""
    tune(medley, "methods=[{name: lora, rank: 4}]")
    (model_of(tuned) / "README.md").unlink()
    assert medley("merge", "runs/tuned", "--out", "merged").code == 0
    assert "merged by" in (tuned / "merged/README.md").read_text()
    further = ["methods=[{name: lora, rank: 4}]", "--from-adapter", "runs/tuned"]
    tune(medley, *further, "experiment=more")
    (other,) = tuned.glob("runs/more/*/result.json")
    other.parent.rename(tuned / "runs/tuned/another")
    for words in (["merge", "runs/tuned", "--out", "two"], ["finetune", "tune.yaml", *further]):
        outcome = medley(*words)
        assert outcome.code == 2
        assert "runs/tuned holds several runs; name one" in outcome.err


@pytest.mark.parametrize(
    "name", ["", "medley.json", "adapter_model.safetensors", "head.safetensors"]
)
def test_a_done_run_whose_model_is_gone(medley, tuned, name: str) -> None:
    tune(medley)
    gone = model_of(tuned) / name
    gone.rename(tuned / "gone")
    outcome = medley("finetune", "tune.yaml", "training.learning_rate=0.05")
    assert outcome.code == 2
    assert "model in" not in outcome.out
    assert "gone; restore it, or train it again with --fresh" in outcome.err
    tune(medley, "--fresh")
    assert gone.exists()


def test_an_adapter_is_trained_further(medley, tuned, kind: str) -> None:
    tune(medley, "methods=[{name: lora, rank: 4, target_modules: [v_proj]}]")
    folder = model_of(tuned).rename(tuned / "adapter")
    words = ["--from-adapter", "adapter", "methods=[{name: lora, rank: 4, dropout: 0}]"]
    tune(medley, *words, "experiment=more", rate=1e-12)
    (file,) = tuned.glob("runs/more/*/result.json")
    more, first, batch = open_model(file.parent), open_model(folder), some(0.5)
    torch.testing.assert_close(
        more.predict_scores(batch), first.predict_scores(batch), atol=1e-4, rtol=1e-4
    )
    assert more.facts.target_modules == first.facts.target_modules
    tune(medley, *words, "experiment=most")
    (file,) = tuned.glob("runs/most/*/result.json")
    most = open_model(file.parent)
    assert not torch.allclose(most.embed(batch), first.embed(batch), atol=1e-3)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_was_tuned_is_a_start(medley, tuned, kind: str, method: str) -> None:
    """Its encoder, with the adapter merged; the base below an adapter then is no checkpoint."""
    tune(medley, f"methods=[{method}]")
    folder = model_of(tuned).rename(tuned / "first")
    tune(medley, "init=first", "methods=[head,lora]", "experiment=next")
    batch, first = some(0.5), open_model(folder)
    for file in tuned.glob("runs/next/*/result.json"):
        again = open_model(file.parent)
        assert (file.parent / "model/encoder.safetensors").exists()
        if again.facts.method["name"] == "head":
            torch.testing.assert_close(again.embed(batch), first.embed(batch), atol=1e-5, rtol=1e-4)
        else:
            _names_no_base(medley, tuned, kind, file.parent / "model")
    assert len(list(tuned.glob("runs/next/*/result.json"))) == 2


def _names_no_base(medley, tuned, kind: str, folder: Path) -> None:
    """The adapter names no base; on the one that it stands on, made plain, PEFT loads it."""
    import peft

    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] is None
    assert "names no base" in (folder / "README.md").read_text()
    assert medley("merge", "first", "--out", "plain").code == 0
    opened, batch = open_model(folder), some()
    whole = transformers.AutoModel.from_pretrained(tuned / "plain").eval()
    plain = whole.get_submodule(WITHIN[kind]) if WITHIN[kind] else whole
    theirs = peft.PeftModel.from_pretrained(plain, str(folder)).eval()
    found = plain_pooled(theirs, opened, batch)
    torch.testing.assert_close(found, opened.embed(batch), atol=1e-5, rtol=1e-5)


def test_runs_of_other_commands_are_starts(medley, tuned) -> None:
    from benchmarks.commands.align.reopen import reopen

    assert medley("align", "align.yaml").code == 0
    assert medley("bench", "tiny.yaml").code == 0
    batch = some(0.3)
    (aligned,) = (f.parent for f in tuned.glob("runs/tones/*/result.json"))
    (stream,) = (f.parent for f in tuned.glob("runs/tiny/*/result.json"))
    text = FINETUNE.replace("encoder: {name: compact, width: 16, depth: 1, heads: 2}\n", "")
    (tuned / "tune.yaml").write_text(text)
    tune(medley, f"init={aligned}", "methods=[head]")
    tower = reopen(aligned, torch.device("cpu")).model.signals["speech"]
    with torch.no_grad():
        expected = tower.encode(batch)  # pyright: ignore
    torch.testing.assert_close(open_model(model_of(tuned)).embed(batch), expected)
    (found,) = results(tuned).values()
    assert found.config["encoder"]["width"] == 16
    assert "start" in (found.inputs or {})
    tune(medley, f"init={stream.parent}", "methods=[head]", "experiment=of_stream")
    from safetensors.torch import load_file

    weights = load_file(sorted(stream.glob("models/*.safetensors"))[-1])
    (file,) = tuned.glob("runs/of_stream/*/result.json")
    own = load_file(file.parent / "model/encoder.safetensors")
    assert all(torch.equal(own[k], weights[k]) for k in own if k.startswith("encoder."))


def test_an_encoder_is_warmed_up_on_other_data_first(medley, tuned) -> None:
    warm = "warm_up={dataset: {name: toy, train: 4}, epochs: 1}"
    words = ["finetune", "tune.yaml", warm, "methods=[head]"]
    assert medley(*words).code == 0
    (warmed,) = tuned.glob("runs/warm_up/*/models/*.safetensors")
    from safetensors.torch import load_file

    weights = load_file(warmed)
    own = load_file(model_of(tuned) / "encoder.safetensors")
    assert all(torch.equal(own[k], weights[k]) for k in own if k.startswith("encoder."))
    card = (model_of(tuned) / "README.md").read_text()
    assert "a compact encoder after a warm-up on toy" in card
    assert medley(*words).err.count("done before") == 1


def test_a_card_says_when_the_checkpoint_was_not_used(medley, tuned, kind: str) -> None:
    tune(medley, "methods=[random]")
    card = (model_of(tuned) / "README.md").read_text()
    assert "with random weights in place of its own" in card
    assert "Base: none (random weights)" in card
    assert (model_of(tuned) / "encoder.safetensors").exists()


def test_the_page_shows_how_plain_peft_loads_it(medley, tuned, kind: str) -> None:
    """The five lines of docs/finetune.md, word for word but for the two names."""
    tune(medley, "methods=[lora]")
    folder = model_of(tuned)
    opened, batch = open_model(folder), some()
    page = (Path(__file__).parents[4] / "docs/finetune.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in script.splitlines() if line]) == 5
    script = script.replace("BASE", str(tuned / "base")).replace("FOLDER", str(folder))
    if not WITHIN[kind]:
        script = script.replace(".encoder  #", "  #")
    values = opened.model.front_end(batch).values
    names = {"features": values[:, 0] if values.shape[1] == 1 else values}
    exec(script, names)
    expected = opened.embed(batch)
    torch.testing.assert_close(names["tokens"].mean(1).detach(), expected, atol=1e-5, rtol=1e-5)
