"""``medley align`` over cases: X-ray, ECG and report of synthetic patients in one space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import normalize

from benchmarks import load_model
from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import decode, open_align
from benchmarks.commands.align.parts import build_model
from benchmarks.commands.align.reopen import reopen
from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.model import Model, Predicted, manifest_of
from benchmarks.results.result import Result
from multimodal.datasets.pairing import Cases
from multimodal.datasets.synthetic.patients import SyntheticPatientsConfig
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import unit_texts
from multimodal.recordings import Recording
from multimodal.signals import SignalCache
from multimodal.training.fit import Fit
from tests.benchmarks.commands.align_text import interrupt_once
from tests.multimodal.encoders.checkpoints import save_text_checkpoint

CASES = """\
experiment: patients
dataset: {name: synthetic_patients, train_patients: 24, validation_patients: 6, test_patients: 12}
views:
  xray:
    modality: {name: xray, size: 32}
    encoder: {name: compact, width: 16, depth: 1, heads: 2, patch: 16}
  ecg:
    modality: {name: ecg, sample_rate: 100}
    encoder: {name: compact, width: 16, depth: 1, heads: 2, patch: 16}
objectives: [clip]
prompts:
  sets:
    words:
      cardiomegaly: [["", large], [heart]]
      pleural_effusion: [["", small], [effusion]]
      pacemaker: [["", one], [pacemaker]]
      interstitial_pattern: [["", fine], [pattern]]
      hilar_enlargement: [["", left], [hilum]]
    drawn: 1
    seeds: [1, 2]
text: {checkpoint: text, max_length: 32}
training: {epochs: 2, batch_size: 8, device: cpu, log_every: 1}
tracking: {store: none}
"""


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    save_text_checkpoint(tmp_path / "text", "bert")
    (tmp_path / "cases.yaml").write_text(CASES)
    return tmp_path


def result_of(folder: Path) -> Result:
    (file,) = folder.glob("runs/patients/*/result.json")
    return Result.load(file.parent)


def test_a_run_tells_of_every_modality_and_direction(medley, patients) -> None:
    outcome = medley("align", "cases.yaml")
    assert outcome.code == 0, outcome.err
    result = result_of(patients)
    assert result.modality == "xray+ecg"
    assert not {"modality", "projection"} & set(result.config)
    for name in ("xray", "ecg"):
        for key in ("zero_shot_macro_auroc", "linear_probe_macro_auroc"):
            assert 0 <= result.metrics[f"{name}_{key}"] <= 1
        for kind in ("zero_shot", "linear_probe", "random_encoder"):
            key = f"{name}_{kind}_macro_auroc"
            low, high = result.evaluation["intervals"][key]
            assert low <= result.metrics[key] <= high
        assert "2 prompt seeds" in result.evaluation["protocol"][name]
    directions = ("xray_to_ecg", "xray_to_text", "ecg_to_xray", "ecg_to_text")
    for direction in (*directions, "text_to_xray", "text_to_ecg"):
        assert 0 <= result.metrics[f"{direction}_recall_at_1"] <= 1
        assert f"{direction}_recall_at_1" in result.evaluation["intervals"]
        assert direction.replace("_", " ") in outcome.out
    gaps = [result.metrics[f"{name}_centroid_distance"] for name in ("xray", "ecg")]
    assert all(0 < gap <= 2 for gap in gaps)
    assert result.metrics["centroid_distance"] == pytest.approx(np.mean(gaps))
    mean = [result.metrics[f"{name}_zero_shot_macro_auroc"] for name in ("xray", "ecg")]
    assert result.metrics["macro_auroc"] == pytest.approx(np.mean(mean))
    assert result.dataset["cases"]["patients"] == 42
    alone = result.dataset["cases"]["patients without a pair"]
    assert alone > 0
    assert f"42 patients, {alone} patients without a pair" in outcome.err
    assert result.dataset["synthetic"]
    page = (patients / "runs" / "patients" / "report.html").read_text()
    assert "not for clinical use" in page
    assert "random encoder" in page
    assert "emergent" in page
    again = medley("align", "cases.yaml")
    assert "done before" in again.err


def test_an_interrupted_run_goes_on_bit_for_bit(medley, patients, monkeypatch) -> None:
    assert medley("align", "cases.yaml", "output_dir=whole").code == 0
    (file,) = patients.glob("whole/patients/*/result.json")
    whole = Result.load(file.parent)
    interrupt_once(monkeypatch, patients)
    assert medley("align", "cases.yaml").code == 130
    assert medley("align", "cases.yaml").code == 0
    speed = {"recordings_per_second", "data_wait_share"}
    for key, value in result_of(patients).metrics.items():
        assert key in speed or value == whole.metrics[key], key


def test_one_of_its_towers_names_new_files(medley, patients) -> None:
    assert medley("align", "cases.yaml").code == 0
    (file,) = patients.glob("runs/patients/*/result.json")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(patients / "new.png")
    with pytest.raises(UserError, match="reads xray, ecg; name one of them"):
        load_model(file.parent)
    model = load_model(file.parent, view="xray")
    (row,) = model.predict(patients / "new.png")
    assert row.error == ""
    assert model.modality == "xray"
    _each_class_is_a_question(file.parent, model, row)
    chosen = load_model(file.parent, view="xray", classes=["a heart", "an effusion"])
    (one,) = chosen.predict(patients / "new.png")
    assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert one.label in chosen.class_names
    outcome = medley("predict", str(file.parent), "new.png", "--view", "ecg")
    assert outcome.code == 2
    assert "modality xray; the model reads ecg" in outcome.err


def _each_class_is_a_question(folder: Path, model: Model, row: Predicted) -> None:
    """Its answers are those of the prompt sets by which its AUROC was told."""
    config, adapters, aligned, _ = reopen(folder, torch.device("cpu"))
    part = Part(folder.parents[2] / "new.png", "new.png")
    signals = SignalCache(manifest_of(model._opened, [part]), adapters["xray"])
    signals.ensure(np.arange(1))
    batch = signals.gather(np.arange(1))
    assert config.prompts.sets is not None
    names, sets = list(model.class_names), config.prompts.sets.sets

    def text(words: str) -> torch.Tensor:
        return unit_texts([words], aligned.embed_texts)[0]

    with torch.no_grad():
        (own,) = normalize(aligned.embed_signals(batch, "xray").double(), dim=1)
        for c, name in enumerate(names):
            margins = [
                own @ (text(sets.texts(names, seed)[c][0]) - text("no findings")) for seed in (1, 2)
            ]
            shares = torch.sigmoid(aligned.scale.double() * torch.stack(margins))
            assert row.probabilities[name] == pytest.approx(shares.mean().item(), abs=1e-5)
    assert model.multi_label
    assert row.label == tuple(n for n in names if row.probabilities[n] > 0.5)


def test_damaged_recordings_are_absent_from_their_cases(patients, monkeypatch) -> None:
    monkeypatch.chdir(patients)
    config = AlignConfig.parse(
        {**_settings(), "skip_damaged": True, "cache": "memory", "experiment": "damaged"}
    )
    data = open_align(config)
    load = type(data.views["xray"].data.adapter).load
    victim = data.views["xray"].data.manifest.recordings[3].uid

    def failing(self: object, recording: Recording) -> torch.Tensor:
        if recording.uid == victim:
            raise UserError(f"{recording.where}: damaged")
        return load(self, recording)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(type(data.views["xray"].data.adapter), "load", failing)
    found = decode(data, skip_damaged=True)
    assert found.skipped == 1
    before, after = data.views["xray"].rows, found.views["xray"].rows
    assert before is not None
    assert after is not None
    assert (before == 3).any()
    assert not (after == 3).any()
    assert (after[before != 3] == before[before != 3]).all()
    lost = np.flatnonzero(before == 3)
    ecg = found.views["ecg"].rows
    assert ecg is not None
    assert set(found.usable(lost)) == set(lost[ecg[lost] >= 0])


def _settings() -> dict[str, object]:
    import yaml

    return yaml.safe_load(CASES)


def test_bad_settings_have_one_line(medley, patients) -> None:
    def line(*words: str) -> str:
        outcome = medley("align", "cases.yaml", *words)
        assert outcome.code == 2, outcome.err
        errors = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
        assert len(errors) == 1, outcome.err
        return errors[0]

    assert "has one modality" in line("dataset={name: synthetic_xray}")
    assert "modality and encoder stand in each view" in line("modality.name=xray")
    assert "views.xray: its modality is 'ecg'" in line("views.xray.modality={name: ecg}")
    assert "name two of them or more" in line("views={xray: {modality: xray}}")
    assert "sample_rate=250" in line("views.ecg.modality={name: ecg}")
    alone = ("views={}", "modality={name: ecg, sample_rate: 100}", "dataset.modality=ecg")
    assert "prompts.sets: is for a dataset of cases" in line(*alone)


def test_what_could_not_be_scored_is_refused_before_the_first_step(
    medley, patients, monkeypatch
) -> None:
    def trained(self: Fit, rows: np.ndarray) -> None:
        raise AssertionError("a step was made")

    monkeypatch.setattr(Fit, "_train_on", trained)
    read = SyntheticPatientsConfig.build_cases

    def line(*words: str) -> str:
        outcome = medley("align", "cases.yaml", *words)
        assert outcome.code == 2, outcome.err
        return outcome.err

    assert "no words for" in line("prompts.sets.words={cardiomegaly: [[heart]]}")
    assert "an axis is empty" in line("prompts.sets.words.pacemaker=[[one], []]")
    assert "negatives: none for" in line("prompts.sets.negatives={pacemaker: no pacemaker}")
    for split in ("test", "validation"):

        def bare(self: SyntheticPatientsConfig, root: Path, split: str = split) -> Cases:
            cases = read(self, root)
            there = np.array(cases.splits) != split
            keep = np.flatnonzero(there | (cases.rows["xray"] >= 0))
            cases = cases.select(keep)
            there = np.array(cases.splits) != split
            ecg = np.where(there, cases.rows["ecg"], -1)
            texts = tuple(t if keep else "" for t, keep in zip(cases.texts, there, strict=True))
            return replace(cases, rows={**cases.rows, "ecg": ecg}, texts=texts)

        monkeypatch.setattr(SyntheticPatientsConfig, "build_cases", bare)
        assert f"{split} cases have only xray" in line()


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_projection_head_trains_and_reopens(medley, patients, norm) -> None:
    few = ("dataset.train_patients=8", "dataset.validation_patients=0", "training.epochs=1")
    words = ("align", "cases.yaml", "width=8", f"projection={norm}", *few)
    assert medley(*words).code == 0
    result = result_of(patients)
    assert result.config["projection"] == norm
    (file,) = patients.glob("runs/patients/*/model.safetensors")
    own, begun = reopen(file.parent, torch.device("cpu")), load_file(file)
    for tower in ("signals.xray", "signals.ecg", "text"):
        name = f"{tower}.projection.third.weight"
        assert begun[name].shape[0] == 8
        assert torch.equal(own.model.state_dict()[name], begun[name])
    untrained = build_model(own.config, own.adapters).state_dict()
    assert not torch.equal(untrained[name], begun[name])  # pyright: ignore[reportPossiblyUnbound]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(patients / "new.png")
    one = load_model(file.parent, view="xray")
    (alone,) = one.predict(patients / "new.png")
    assert alone.error == ""


def test_fine_tuning_starts_from_the_encoder_of_one_modality(medley, patients) -> None:
    assert medley("align", "cases.yaml", "training.epochs=1").code == 0
    (patients / "tune.yaml").write_text(
        "experiment: tuned\ndataset: {name: synthetic_ecg, train_per_class: 4, test_per_class: 2}\n"
        "modality: ecg\nmethods: [head]\ninit: runs/patients\n"
        "training: {epochs: 1, batch_size: 8, device: cpu}\ntracking: {store: none}\n"
    )
    outcome = medley("finetune", "tune.yaml")
    assert outcome.code == 0, outcome.err
    (file,) = patients.glob("runs/tuned/*/model/encoder.safetensors")
    trained = load_file(next(patients.glob("runs/patients/*/model.safetensors")))
    for name, tensor in load_file(file).items():
        assert torch.equal(tensor, trained[f"signals.ecg.{name}"]), name
    other = medley("finetune", "tune.yaml", "modality=speech", "dataset=synthetic_speech")
    assert other.code == 2
    assert "has no speech encoder but of xray, ecg" in other.err
