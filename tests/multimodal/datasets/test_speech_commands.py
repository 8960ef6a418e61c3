"""The reader of Google Speech Commands, on tiny copies of the official layouts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.datasets import DATASETS
from multimodal.datasets.speech_commands import WORDS, SpeechCommandsConfig
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError

SPEAKERS = {"aaaa0001": "train", "bbbb0002": "validation", "cccc0003": "test"}
V2_ONLY_WORDS = ("backward", "follow", "forward", "learn", "visual")


def make_copy(root: Path, words: tuple[str, ...]) -> Path:
    tone = np.sin(np.arange(160) / 5, dtype=np.float32)
    lists: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for word in words:
        (root / word).mkdir(parents=True)
        for speaker, split in SPEAKERS.items():
            for take in (0, 1):
                name = f"{speaker}_nohash_{take}.wav"
                soundfile.write(root / word / name, tone, 16000)
                lists[split].append(f"{word}/{name}")
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "pink_noise.wav", tone, 16000)
    (root / "LICENSE").write_text("")
    (root / "validation_list.txt").write_text("\n".join(lists["validation"]) + "\n")
    (root / "testing_list.txt").write_text("\n".join(lists["test"]))  # no final newline
    return root


def test_word_lists() -> None:
    assert list(WORDS["v0.02"]) == sorted(set(WORDS["v0.02"]))
    assert len(WORDS["v0.02"]) == 35
    assert len(WORDS["v0.01"]) == 30
    assert set(WORDS["v0.02"]) - set(WORDS["v0.01"]) == set(V2_ONLY_WORDS)


@pytest.mark.parametrize("version", ["v0.01", "v0.02"])
@pytest.mark.parametrize("layout", ["", "speech_commands_{}", "SpeechCommands/speech_commands_{}"])
def test_full_word_list_in_every_layout(tmp_path: Path, version, layout: str) -> None:
    base = make_copy(tmp_path / layout.format(version), WORDS[version])
    manifest = SpeechCommandsConfig(version=version).build(tmp_path)
    assert manifest.class_names == WORDS[version]
    assert manifest.version == version
    assert len(manifest) == len(WORDS[version]) * 6
    for r in manifest:
        word, name = r.uid.split("/")
        assert r.path == base / word / name
        assert (r.text, manifest.class_names[r.label]) == (word, word)
        assert r.group == name.split("_")[0]
        assert r.split == SPEAKERS[r.group]


def test_subset_of_words(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes", "no", "up"))
    config = SpeechCommandsConfig.parse({"words": ["yes", "no"]})
    manifest = config.build(tmp_path)
    assert manifest.class_names == ("no", "yes")
    assert len(manifest) == 12
    assert config.expected_counts() is None


def test_blank_lines_and_carriage_returns_in_the_lists(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes",))
    path = tmp_path / "validation_list.txt"
    path.write_text(path.read_text().replace("\n", "\r\n\r\n"), newline="")
    manifest = SpeechCommandsConfig(words=("yes",)).build(tmp_path)
    assert len(manifest.indices("validation")) == 2


def test_unquoted_yes_in_yaml_is_explained() -> None:
    with pytest.raises(ValueError, match="in quotes"):
        SpeechCommandsConfig.parse({"words": [True, "up"]})


def test_expected_counts() -> None:
    assert SpeechCommandsConfig(version="v0.01").expected_counts() == {
        "train": 51_088,
        "validation": 6_798,
        "test": 6_835,
    }
    counts = SpeechCommandsConfig().expected_counts()
    assert counts is not None
    assert counts == {"train": 84_843, "validation": 9_981, "test": 11_005}
    assert [s for s, n in counts.items() if isinstance(n, Unverified)] == ["train"]
    first = SpeechCommandsConfig(version="v0.01").expected_counts()
    assert first is not None
    assert not any(isinstance(n, Unverified) for n in first.values())


def test_list_entry_without_a_file(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes", "no"))
    (tmp_path / "no" / "cccc0003_nohash_1.wav").unlink()  # stands in the middle of the list
    with pytest.raises(UserError, match=r"testing_list.txt: 'no/cccc0003_nohash_1.wav' is listed"):
        SpeechCommandsConfig(words=("yes", "no")).build(tmp_path)


def test_last_entry_counts_although_it_has_no_newline(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes",))
    (tmp_path / "yes" / "cccc0003_nohash_1.wav").unlink()
    with pytest.raises(UserError, match=r"'yes/cccc0003_nohash_1.wav' is listed"):
        SpeechCommandsConfig(words=("yes",)).build(tmp_path)


@pytest.mark.parametrize("line", ["yes", "house_of_cards/aaaa0001_nohash_0.wav"])
def test_bad_list_line(tmp_path: Path, line: str) -> None:
    make_copy(tmp_path, ("yes",))
    (tmp_path / "validation_list.txt").write_text(line)
    with pytest.raises(UserError, match=r"validation_list.txt, line 1: .*word/file.wav"):
        SpeechCommandsConfig(words=("yes",)).build(tmp_path)


def test_entry_in_both_lists(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes",))
    shutil.copy(tmp_path / "validation_list.txt", tmp_path / "testing_list.txt")
    with pytest.raises(UserError, match=r"testing_list.txt, line 1: .* is in both lists"):
        SpeechCommandsConfig(words=("yes",)).build(tmp_path)


def test_lists_that_leak_a_speaker_are_refused(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes",))
    (tmp_path / "validation_list.txt").write_text("yes/aaaa0001_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"both sides of a split \(aaaa0001\)"):
        SpeechCommandsConfig(words=("yes",)).build(tmp_path)


def test_missing_and_foreign_word_folders(tmp_path: Path) -> None:
    make_copy(tmp_path / "few", ("yes", "no"))
    with pytest.raises(UserError, match=r"no folder of the word\(s\) backward, bed, .*setting wor"):
        SpeechCommandsConfig().build(tmp_path / "few")
    (tmp_path / "few" / "_silence_").mkdir()
    with pytest.raises(UserError, match=r"_silence_ is no word of speech_commands v0.02"):
        SpeechCommandsConfig(words=("yes",)).build(tmp_path / "few")


def test_mixed_up_versions(tmp_path: Path) -> None:
    make_copy(tmp_path / "one", WORDS["v0.01"])
    with pytest.raises(UserError, match=r"is it v0\.01\?"):
        SpeechCommandsConfig(version="v0.02").build(tmp_path / "one")
    make_copy(tmp_path / "two", WORDS["v0.02"])
    with pytest.raises(UserError, match=r"backward, follow.* is no word .*v0\.01; is it v0\.02\?"):
        SpeechCommandsConfig(version="v0.01").build(tmp_path / "two")


def test_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*testing_list.txt"):
        SpeechCommandsConfig().build(tmp_path / "nowhere")
    (tmp_path / "fsdd").mkdir()
    with pytest.raises(UserError, match=r"expected validation_list.txt.*; found fsdd/\."):
        SpeechCommandsConfig().build(tmp_path)


def test_foreign_file_in_a_word_folder(tmp_path: Path) -> None:
    make_copy(tmp_path, ("yes",))
    (tmp_path / "yes" / ".DS_Store").write_text("")
    assert len(SpeechCommandsConfig(words=("yes",)).build(tmp_path)) == 6
    (tmp_path / "yes" / "song.wav").write_text("")
    with pytest.raises(UserError, match=r"song.wav: not a recording of speech_commands"):
        SpeechCommandsConfig(words=("yes",)).build(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [(("yess",), "did you mean 'yes'"), (("visual",), "no word of .* v0.01"), ((), "empty")],
)
def test_bad_words(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpeechCommandsConfig(version="v0.01", words=words).build(tmp_path)


def test_is_registered() -> None:
    assert DATASETS.config("speech_commands") is SpeechCommandsConfig
