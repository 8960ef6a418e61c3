"""``medley finetune`` and ``medley merge`` refuse in one line, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.benchmarks.commands.finetune_text import FINETUNE
from tests.multimodal.encoders import audio_checkpoints
from tests.multimodal.encoders.checkpoints import save_image_checkpoint


@pytest.fixture(autouse=True)
def files(tuned, medley) -> None:
    """``adapter/`` and ``whole/``: models of two classes; ``base/`` a checkpoint of sounds."""
    (tuned / "base").mkdir()
    audio_checkpoints.whisper(tuned / "base")
    save_image_checkpoint(tuned / "pictures", "vit")
    words = ["finetune", "tune.yaml", "methods=[{name: lora, rank: 4},full]"]
    assert medley(*words, "training.epochs=1").code == 0
    for file in tuned.glob("runs/tuned/*/model"):
        adapted = (file / "adapter_config.json").exists()
        file.rename(tuned / ("adapter" if adapted else "whole"))
    for folder, name in (("third", "mid"), ("one", "only")):
        for old in (tuned / "clips").rglob("*.wav"):
            kept = tuned / folder / (old.parent.name if folder == "third" else name)
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{old.parent.name}-{old.name}").write_bytes(old.read_bytes())
    (tuned / "third/mid").mkdir()
    for i in range(4):
        signal, rate = soundfile.read(tuned / f"clips/low/{i}.wav")
        soundfile.write(tuned / f"third/mid/{i}.wav", signal[::2], rate)


PRETRAINED = "{name: pretrained, checkpoint: %s}"
ADAPTER = "methods=[{name: lora, rank: 4}] from_adapter=adapter"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "methods=[{name: lora, target_modules: [query]}]",
            ["methods.target_modules: 'query'", "Valid: linear1, linear2"],
        ),
        (
            "methods=[{name: lora, target_modules: []}]",
            ["methods.0.target_modules: lists nothing; list 1 or more, or leave it out"],
        ),
        (
            "task=align texts.prompts.sets={words: {low: [[a]], high: [[b]]}}",
            ["texts.prompts.sets: unknown key"],
        ),
        ("texts.captions=labels", ["texts is of task=align"]),
        ("task=align pos_weight=true", ["pos_weight is of task=classify"]),
        ("methods=[lorra]", ["unknown method 'lorra'; did you mean 'lora'?"]),
        ("methods=[{name: full, rank: 3}]", ["rank", "unknown key"]),
        ("methods=[]", ["methods: list at least one"]),
        (f"encoder={PRETRAINED % 'gone'}", ["'gone' is not a folder", "hub"]),
        (f"encoder={PRETRAINED % 'pictures'}", ["reads xray, not modality 'speech'"]),
        ("encoder={name: lora, base: compact}", ["encoder: name the base", "methods=[lora]"]),
        ("dataset.root=one", ["are of class 'only'", "two classes"]),
        ("pos_weight=true", ["pos_weight", "one label each"]),
        ("init=gone", ["init=gone is not a folder", "give a run's folder"]),
        ("init=clips", ["init=clips holds no finished run"]),
        ("init=adapter from_adapter=adapter", ["give init or from_adapter, not both"]),
        ("init=adapter encoder.width=32", ["belongs to another base", "width 16 there, 32 here"]),
        (f"{ADAPTER} encoder={PRETRAINED % 'base'}", ["another base", "compact there"]),
        (f"{ADAPTER} dataset.root=third", ["2 classes", "3", "['mid']", "init"]),
        ("from_adapter=adapter methods=[{name: lora, rank: 8}]", ["has rank 4", "method 8"]),
        ("from_adapter=adapter methods=[{name: dora, rank: 4}]", ["has name lora"]),
        ("from_adapter=adapter methods=[head]", ["set methods=[{name: lora, rank: 4}]"]),
        ("from_adapter=whole", ["method 'full' and has no adapter", "give it as init"]),
        ("from_adapter=clips", ["no medley.json in it"]),
        ("register_as=mine", ["register_as needs tracking.store=mlflow"]),
        ("training.patience=2", ["patience=2 needs validation recordings"]),
        (
            "evaluate_also=[{name: folder, root: one, modality: speech}]",
            ["evaluate_also", "fewer than two training classes"],
        ),
    ],
)
def test_bad_input_is_refused_before_training(refuse, words: str, said) -> None:
    refuse("finetune tune.yaml " + " ".join(_quoted(words)), *said, made="*.json")


FURTHER = "finetune tune.yaml 'methods=[{name: lora, rank: 4}]' --from-adapter adapter"


def _quoted(words: str) -> list[str]:
    """Each override in quotes; they begin with ``key=``."""
    parts: list[str] = []
    for word in words.split(" "):
        if "=" in word and not word.startswith("{"):
            parts.append(word)
        else:
            parts[-1] += " " + word
    return [f"'{part}'" for part in parts]


def test_an_adapter_whose_base_has_changed(refuse, medley, tuned) -> None:
    encoder = "encoder: {name: pretrained, checkpoint: base}\nmodality: {sample_rate: 16000}"
    text = FINETUNE.replace("encoder: {name: compact, width: 16, depth: 1, heads: 2}", encoder)
    (tuned / "on_base.yaml").write_text(text)
    assert medley("finetune", "on_base.yaml", "training.epochs=1", "output_dir=other").code == 0
    (folder,) = (f.parent / "model" for f in tuned.glob("other/tuned/*/result.json"))
    weights = tuned / "base/model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-4] + b"abcd")
    refuse(f"finetune on_base.yaml --from-adapter {folder}", "belongs to another base", "digest")
    refuse(f"merge {folder} --out merged", "belongs to another base")
    weights.write_bytes(kept)
    (tuned / "base").rename(tuned / "moved")
    refuse(f"merge {folder} --out merged", "its base is absent")
    refuse(f"finetune on_base.yaml --from-adapter {folder}", "its base is absent")
    # Under another name it is the same base.
    (tuned / "moved").rename(tuned / "base")
    (tuned / "copy").mkdir()
    for file in (tuned / "base").iterdir():
        (tuned / "copy" / file.name).write_bytes(file.read_bytes())
    words = ["--from-adapter", str(folder), "encoder.checkpoint=copy", "output_dir=again"]
    assert medley("finetune", "on_base.yaml", *words).code == 0


@pytest.mark.parametrize("name", ["medley.json", "head.safetensors", "adapter_model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_model_folders(refuse, tuned, name: str, damage: str) -> None:
    path: Path = tuned / "adapter" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        whole = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else whole)
    for command in ("merge adapter --out merged", FURTHER):
        refuse(command, name)


def test_merge_of_what_is_no_model(refuse, tuned) -> None:
    refuse("merge clips --out merged", "clips: no medley.json", "medley finetune")
    refuse("merge gone --out merged", "gone: no medley.json")
    refuse("merge adapter --out clips", "--out clips: exists and is not empty")


def test_formats_of_later_versions_are_not_guessed(refuse, tuned) -> None:
    import json

    path = tuned / "adapter/medley.json"
    data = json.loads(path.read_text())
    data.pop("digest")
    path.write_text(json.dumps({**data, "format": 2}))
    refuse("merge adapter --out merged", "format 2, this version of Medley reads 1")
