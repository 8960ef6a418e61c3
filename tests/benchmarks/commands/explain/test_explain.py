"""``medley explain``: pictures of every modality, privacy of patients, bad input."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from benchmarks.commands.explain import command
from benchmarks.commands.explain.drawing import draw, stretched
from benchmarks.commands.explain.maps import Map, Query, explain
from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.opened import Asked, open_model
from multimodal.errors import UserError
from tests.benchmarks.commands.align.test_cases import CASES
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import RATE, tone

CPU = torch.device("cpu")


@pytest.fixture
def run(medley, tiny) -> Path:
    soundfile.write(tiny / "new.wav", tone(300, 0.2, 5)[0], RATE)
    assert medley("bench", "tiny.yaml").code == 0
    return next(tiny.glob("runs/tiny/*/result.json")).parent


@pytest.fixture
def patients(medley, tmp_path) -> Path:
    save_text_checkpoint(tmp_path / "text", "bert")
    (tmp_path / "cases.yaml").write_text(CASES)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "Mrs_Smith.png")
    assert medley("align", "cases.yaml").code == 0
    return next(tmp_path.glob("runs/patients/*/result.json")).parent


def test_a_spectrogram_has_a_picture_and_a_page(medley, run) -> None:
    outcome = medley("explain", str(run), "new.wav", "clips/low")
    assert outcome.code == 0, outcome.err
    assert "5 maps" in outcome.out
    pictures = sorted((run / "explain").glob("*.png"))
    assert pictures[0].name == "001_new.png"
    assert all(matplotlib.image.imread(p).std() > 0.05 for p in pictures)
    page = (run / "explain" / "explain.html").read_text()
    assert page.count("data:image/png;base64") == 5
    assert "not for clinical use" not in page


def test_the_map_is_of_the_score_that_is_asked_for(run, tiny, monkeypatch) -> None:
    monkeypatch.chdir(tiny)
    opened = open_model(run, CPU, Asked())
    opened.module.eval()
    part = [Part(tiny / "new.wav", "new.wav")]
    (own,) = explain(opened, part, Query())
    (low,) = explain(opened, part, Query(label="low"))
    (high,) = explain(opened, part, Query(label="high"))
    best = low if low.score > high.score else high
    assert (own.target, own.score) == (best.target, best.score)
    np.testing.assert_array_equal(own.relevance, best.relevance)
    assert not np.allclose(low.relevance, high.relevance)
    assert own.relevance.min() >= 0
    assert own.relevance.shape[-1] == own.features.shape[-1]


def test_of_patients_the_store_gets_maps_without_signal_or_name(
    medley, patients, monkeypatch
) -> None:
    sent: list[Path] = []
    monkeypatch.setattr(command, "send_files", lambda run, files, place: sent.extend(files) or "x")
    words = ("explain", str(patients), "Mrs_Smith.png", "--view", "xray", "--text", "effusion")
    outcome = medley(*words, "--track")
    assert outcome.code == 0, outcome.err
    folder = patients / "explain"
    assert sent == [folder / "map_001.png"]
    assert "not for clinical use" in (folder / "explain.html").read_text()
    shown, alone = (
        matplotlib.image.imread(folder / name) for name in ("001_Mrs_Smith.png", "map_001.png")
    )
    assert not np.allclose(shown, alone)
    assert medley(*words).code == 0
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("modality", "signal", "features", "relevance"),
    [
        ("xray", (1, 32, 32), (1, 32, 32), (32, 32)),
        ("ecg", (12, 100), (12, 100), (100,)),
        ("speech", (1, 1600), (64, 20), (20,)),
        ("audio", (1, 1600), (1, 64, 20), (64, 20)),
        ("video", (8, 3, 16, 16), (3, 4, 16, 16), (4, 16, 16)),
    ],
)
@pytest.mark.parametrize("with_signal", [True, False])
def test_every_modality_is_drawn(modality, signal, features, relevance, with_signal, tmp_path):
    rng = np.random.default_rng(0)
    kind = np.uint8 if modality == "video" else np.float32
    part = Part(Path("x"), "x")
    sizes = (255 * rng.random(signal)).astype(kind) if kind is np.uint8 else rng.random(signal)
    found = Map(part, "class", 0.5, sizes, rng.random(features), rng.random(relevance))
    draw(found, tmp_path / "x.png", modality=modality, signal=with_signal)
    assert matplotlib.image.imread(tmp_path / "x.png").std() > 0.02


def test_a_display_stretches_and_survives_an_empty_map() -> None:
    assert stretched(np.array([1.0, 3.0])).tolist() == [0, 1]
    assert stretched(np.zeros(3)).tolist() == [0, 0, 0]


def test_bad_input_has_one_line(medley, run, tiny) -> None:
    def line(*words: str) -> str:
        outcome = medley("explain", *words)
        assert outcome.code == 2
        assert len(outcome.err.splitlines()) == 1, outcome.err
        return outcome.err

    own = str(run)
    assert "no such class; did you mean" in line(own, "new.wav", "--label", "hihg")
    assert "--text is for models" in line(own, "new.wav", "--text", "a tone")
    assert "give one of them" in line(own, "new.wav", "--text", "a", "--label", "low")
    assert "absent.wav" in line(own, "absent.wav")
    (tiny / "x.png").touch()
    assert "modality xray; the model reads speech" in line(own, "new.wav", "x.png")
    soundfile.write(tiny / "hour.wav", np.tile(tone(300, 1.0, 1)[0], 9), RATE)
    assert "lasts 9 s" in line(own, "hour.wav")
    assert "--window" not in line(own, "hour.wav")
    (tiny / "part.csv").write_text("path,start,duration\nhour.wav,1,0.2\n")
    assert medley("explain", own, "part.csv").code == 0
    many = tiny / "many"
    many.mkdir()
    for i in range(51):
        (many / f"{i}.wav").touch()
    assert "at most 50" in line(own, "many")
    assert medley("bench", "tiny.yaml", "learners=[l2p,slda]", "experiment=other").code == 0
    for result in tiny.glob("runs/other/*/result.json"):
        with pytest.raises(UserError, match=r"no attention maps|no gradient"):
            list(
                explain(
                    open_model(result.parent, CPU, Asked()), [Part(tiny / "new.wav", "n")], Query()
                )
            )
