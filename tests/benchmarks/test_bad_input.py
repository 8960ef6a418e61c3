"""Bad input: exit code 2, one clear line a problem, nothing trained and nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.toy import RATE


def clip(name: str) -> Path:
    return Path("clips") / name


# ---- the config -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochz=3", "tiny.yaml: training.epochz: unknown key; did you mean 'epochs'?"),
        ("colour=red", "tiny.yaml: colour: unknown key"),
        ("encoder.witdh=8", "tiny.yaml: encoder.witdh: unknown key; did you mean 'width'?"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer (got 'many')"),
        ("training.epochs=0", "training.epochs: Input should be greater than or equal to 1 (got 0"),
        ("training=fast", "tiny.yaml: training: "),
        ("learners=[finetun]", "learners.0: unknown learner 'finetun'; did you mean 'finetune'?"),
        ("learners=finetune", "learners: Input should be a valid array (got 'finetune')"),
        ("dataset=fsd", "tiny.yaml: dataset: unknown dataset 'fsd'; did you mean 'fsdd'?"),
        ("scenario.num_experiences=null", "scenario: give either num_experiences or classes"),
        ("seeds=[2020-01-01]", "2020-01-01"),
        ("epochs", "'epochs': write overrides as key.path=value"),
        ("learners.4=joint", "'learners.4=joint': '4' is no place in a list of 1"),
        ("seeds=[1", "'seeds=[1': the value is not valid YAML"),
        ("training={epochs:1}", "tiny.yaml: training.epochs:1: unknown key"),
    ],
)
def test_a_bad_setting(refuse, override: str, words: str) -> None:
    refuse(f"bench tiny.yaml {override}", words)


def test_a_key_that_stands_twice_in_an_override_is_named_with_it(refuse) -> None:
    override = "training={epochs: 1, epochs: 2}"
    refuse(f"bench tiny.yaml '{override}'", override, "key 'epochs' stands twice")


def test_all_problems_come_at_once(refuse) -> None:
    bad = "training.epochz=3 training.batch_size=no learners=[finetun]"
    refuse(f"bench tiny.yaml {bad}", "epochz", "batch_size", "'finetun'", lines=3)


@pytest.mark.parametrize("command", ["bench", "config show"])
def test_a_config_file_that_does_not_exist(refuse, command: str) -> None:
    refuse(f"{command} nothing.yaml", "nothing.yaml: no such config file", "demo/speech")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds: [1]\nseeds: [2]\n", "line 9: key 'seeds' stands twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("? [a]\n: 1\n", "cannot be a key; write a name"),
        ("? 2020-01-01\n: 1\n", "2020-01-01"),
        ("1: x\n", "1 cannot be a key; write a name"),
    ],
)
def test_a_bad_config_file(refuse, text: str, words: str) -> None:
    with Path("tiny.yaml").open("a") as file:
        file.write(text)
    refuse("bench tiny.yaml", "tiny.yaml", words)


@pytest.mark.parametrize("text", ["", "- 1\n", "word\n"])
def test_a_config_file_without_settings(refuse, text: str) -> None:
    Path("bad.yaml").write_text(text)
    refuse("bench bad.yaml", "bad.yaml: expected a mapping of settings, found ")


# ---- where the data are ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("dataset=fsdd", ["data_root is not set", "data_root=FOLDER", "MEDLEY_DATA", "fsdd/"]),
        ("dataset=fsdd data_root=gone", ["gone/fsdd does not exist; expected a folder with"]),
        ("dataset=folder", ["dataset.root: dataset 'folder' needs the folder of your data"]),
        ("dataset.root=gone", ["gone does not exist; expected a folder with folders CLASS/"]),
        ("dataset.root=tiny.yaml", ["tiny.yaml is not a folder; expected a folder with"]),
        ("dataset.root=empty", ["empty: expected folders CLASS/ with recordings", "found nothing"]),
        ("modality=radar", ["modality: unknown modality 'radar'", "speech"]),
    ],
)
def test_data_that_are_not_there(refuse, overrides: str, words: list[str]) -> None:
    Path("empty").mkdir()
    refuse(f"bench tiny.yaml {overrides}", *words)


def test_an_environment_variable_that_leads_nowhere(refuse, monkeypatch) -> None:
    monkeypatch.setenv("MEDLEY_DATA", "gone")
    refuse("bench tiny.yaml dataset=fsdd", "gone/fsdd does not exist")
    refuse("datasets check fsdd", "gone/fsdd does not exist")


def test_an_empty_class_folder(refuse) -> None:
    clip("silence").mkdir()
    refuse("bench tiny.yaml", "class folder clips/silence has no recordings", "remove the folder")


def test_a_class_without_test_recordings(refuse) -> None:
    shutil.copytree("clips", "split/train")
    shutil.copytree("clips/low", "split/test/low")
    words = ["'folder'", "no test recording of class high", "add recordings or drop the class"]
    refuse("bench tiny.yaml dataset.root=split", *words)


def test_a_class_of_one_recording(refuse) -> None:
    clip("rare").mkdir()
    shutil.copy(clip("low/0.wav"), clip("rare/0.wav"))
    refuse("bench tiny.yaml", "class 'rare' has only one recording", "add recordings or remove")


def test_more_experiences_than_classes(refuse) -> None:
    words = ["scenario.num_experiences=3", "does not fit the 2 classes of dataset 'folder'"]
    refuse("bench tiny.yaml scenario.num_experiences=3", *words)


def test_a_modality_that_nothing_can_read(refuse) -> None:
    words = ["unknown modality 'radar'", "speech"]
    refuse("bench tiny.yaml dataset.modality=radar", *words)
    refuse("datasets check folder modality=radar --root clips", *words)


# ---- tables ---------------------------------------------------------------------------------


@pytest.fixture
def refuse_table(refuse):
    def check(rows: list[str], *words: str, override: str = "", lines: int = 1) -> None:
        clip("list.csv").write_text("\n".join(rows) + "\n")
        Path("table.yaml").write_text(
            Path("tiny.yaml")
            .read_text()
            .replace("{name: folder, root: clips}", "{name: table, root: clips, file: list.csv}")
        )
        refuse(f"bench table.yaml {override}", *words, lines=lines)

    return check


LISTED = [f"{name}/{i}.wav,{name},{'test' if i == 0 else 'train'}" for name in ("low", "high")
          for i in range(4)]  # fmt: skip


def test_a_missing_label_column(refuse_table) -> None:
    words = ["clips/list.csv: label_column 'label' is not in the table", "columns: path, word"]
    refuse_table(["path,word,split", *LISTED], *words)


def test_two_missing_columns_are_two_lines(refuse_table) -> None:
    words = ["label_column 'x'", "group_column 'speaker'"]
    override = "dataset.label_column=x dataset.group_column=speaker"
    refuse_table(["path,label,split", *LISTED], *words, override=override, lines=2)


def test_a_recording_that_is_listed_twice(refuse_table) -> None:
    words = ["clips/list.csv, data row 9", "'low/1.wav' is already in data row 2; keep one of them"]
    refuse_table(["path,label,split", *LISTED, "low/1.wav,low,test"], *words)


def test_a_listed_file_that_does_not_exist(refuse_table) -> None:
    words = ["data row 9: path 'low/9.wav' does not exist in clips", "1 of 9 rows"]
    refuse_table(["path,label,split", *LISTED, "low/9.wav,low,test"], *words)


def test_a_path_that_leads_out_of_the_root(refuse_table) -> None:
    words = ["data row 9: path '../tiny.yaml' leads out of the data root clips; move it inside"]
    refuse_table(["path,label,split", *LISTED, "../tiny.yaml,low,test"], *words)


def test_a_group_on_both_sides_of_a_split(refuse_table) -> None:
    rows = [f"{row},{'ann' if 'low/' in row else f'speaker{i}'}" for i, row in enumerate(LISTED)]
    words = ["1 group(s) stand on both sides of a split (ann)", "to one split only"]
    override = "dataset.group_column=speaker"
    refuse_table(["path,label,split,speaker", *rows], *words, override=override)


# ---- damaged files --------------------------------------------------------------------------


def damage() -> None:
    """Of five kinds."""
    whole = clip("low/0.wav").read_bytes()
    clip("low/junk.wav").write_bytes(b"this is no sound" * 100)
    clip("low/empty.wav").write_bytes(b"")
    clip("high/short.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(clip("high/none.wav"), np.zeros(0), RATE)
    soundfile.write(clip("high/nan.wav"), np.full(1600, np.nan), RATE, subtype="FLOAT")


DAMAGED = (
    "clips/low/junk.wav: damaged, truncated or not audio",
    "clips/low/empty.wav: empty file (0 bytes); copy it again or remove it",
    "clips/high/short.wav: truncated, 1578 of 3200 bytes of samples are there; copy the file again",
    "clips/high/none.wav: the file holds no samples; remove or replace it",
    "clips/high/nan.wav: 1600 of 1600 samples are NaN or infinite",
)


def test_each_damaged_file_is_named(refuse) -> None:
    damage()
    refuse("bench tiny.yaml", *DAMAGED, lines=5)
    refuse("bench tiny.yaml cache=disk", *DAMAGED, lines=5, made="shard-*")


def test_damaged_files_can_be_left_out(medley, tiny) -> None:
    shutil.copytree("clips", "split/test")
    damage()
    shutil.copytree("clips", "split/train")
    outcome = medley("bench", "tiny.yaml", "skip_damaged=true", "dataset.root=split")
    assert outcome.code == 0
    (path,) = Path("runs").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["dataset"]["num_recordings"] == 8 + 8 + 5
    assert result["dataset"]["skipped_damaged"] == 5
    assert sum(e["num_train"] + e["num_test"] for e in result["experiences"]) == 8 + 8


def test_it_is_said_that_files_were_left_out(medley, tiny) -> None:
    clip("low/empty.wav").touch()
    clip("low/none.wav").touch()
    outcome = medley("bench", "tiny.yaml", "skip_damaged=true", "dataset.test_fraction=0.5")
    assert outcome.code == 0
    assert "clips/low/empty.wav" in outcome.err
    assert "clips/low/none.wav" in outcome.err


def test_a_class_that_lost_all_its_recordings_cannot_be_left_out(refuse) -> None:
    for path in clip("low").iterdir():
        path.write_bytes(b"")
    refuse("bench tiny.yaml skip_damaged=true", "no training recording of class low")
