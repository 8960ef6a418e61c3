"""The reader of the Free Spoken Digit Dataset, on tiny copies and on the real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.datasets import DATASETS
from multimodal.datasets.fsdd import DIGITS, FsddConfig
from multimodal.errors import UserError

SPEAKERS = ("george", "theo", "yweweler")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Digits 0, 3 and 9 of three speakers, index 0, 4, 5, 9, 10 and 49."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in (9, 0, 3):
        for speaker in SPEAKERS:
            for index in (49, 10, 9, 5, 4, 0):
                tone = np.sin(np.arange(160) * (digit + 1) / 10, dtype=np.float32)
                soundfile.write(folder / f"{digit}_{speaker}_{index}.wav", tone, 8000)
    return tmp_path / "fsdd"


def index_of(uid: str) -> int:
    return int(uid.removesuffix(".wav").split("_")[2])


def test_is_registered() -> None:
    assert DATASETS.config("fsdd") is FsddConfig
    assert FsddConfig.folder == "fsdd"
    config = FsddConfig.parse({"split": "speaker", "test_speakers": ["theo"]})
    assert config.test_speakers == ("theo",)


def test_official_split(copy: Path) -> None:
    manifest = FsddConfig().build(copy)
    assert len(manifest) == 54
    assert manifest.class_names == DIGITS
    assert manifest.class_names[7] == "seven"
    assert manifest.group_overlap == "the official split shares speakers"
    for r in manifest:
        assert r.uid.startswith("recordings/")
        assert r.path == copy / r.uid
        digit, speaker, _ = Path(r.uid).stem.split("_")
        assert (r.label, r.group, r.text) == (int(digit), speaker, DIGITS[int(digit)])
        assert r.split == ("test" if index_of(r.uid) <= 4 else "train")
    assert [r.uid for r in manifest] == sorted(r.uid for r in manifest)
    assert manifest.version == "unnamed release: 54 files, 3 speakers"


def test_validation_takes_index_5_to_9(copy: Path) -> None:
    manifest = FsddConfig(validation=True).build(copy)
    found = {index_of(r.uid): r.split for r in manifest}
    assert found == {
        0: "test",
        4: "test",
        5: "validation",
        9: "validation",
        10: "train",
        49: "train",
    }
    assert "Medley's rule" in manifest.split_rule


def test_speaker_split_shares_no_speaker(copy: Path) -> None:
    manifest = FsddConfig(split="speaker", test_speakers=("theo",)).build(copy)
    sides = {split: set(manifest.groups[manifest.indices(split)]) for split in ("train", "test")}
    assert sides == {"train": {"george", "yweweler"}, "test": {"theo"}}
    assert manifest.group_overlap == ""
    assert manifest.split_rule == "speakers held out for test: theo"


def test_hidden_files_are_ignored(copy: Path) -> None:
    (copy / "recordings" / ".DS_Store").write_bytes(b"x")
    (copy / "metadata.py").write_text("")
    assert len(FsddConfig().build(copy)) == 54


@pytest.mark.parametrize(
    "name", ["notes.txt", "7_jackson.wav", "x_theo_1.wav", "12_theo_1.wav", "1_theo_1.flac"]
)
def test_unknown_file_is_named(copy: Path, name: str) -> None:
    (copy / "recordings" / name).write_text("")
    with pytest.raises(UserError, match=f"{name}: not a recording of fsdd.*7_jackson_32.wav"):
        FsddConfig().build(copy)


def test_wrong_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; expected .*recordings/"):
        FsddConfig().build(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected a folder recordings/ .*; found fsdd/\."):
        FsddConfig().build(tmp_path)
    with pytest.raises(UserError, match=r"found 0_george_0\.wav, .*\(54 entries\)"):
        FsddConfig().build(copy / "recordings")
    (tmp_path / "empty" / "recordings").mkdir(parents=True)
    with pytest.raises(UserError, match="found nothing"):
        FsddConfig().build(tmp_path / "empty")


@pytest.mark.parametrize(
    ("speakers", "words"),
    [
        (("nobody",), "there is no speaker 'nobody'; speakers in the data: george, theo"),
        ((), "it names nobody"),
        (SPEAKERS, "no speaker is left to train on"),
    ],
)
def test_bad_test_speakers(copy: Path, speakers: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        FsddConfig(split="speaker", test_speakers=speakers).build(copy)


def test_validation_needs_the_official_split(copy: Path) -> None:
    with pytest.raises(UserError, match="validation=true takes index 5-9 of the official split"):
        FsddConfig(split="speaker", validation=True).build(copy)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "config",
    [
        FsddConfig(),
        FsddConfig(validation=True),
        FsddConfig(split="speaker"),
        FsddConfig(split="speaker", test_speakers=("george",)),
    ],
)
def test_real_copy_has_the_expected_counts(config: FsddConfig, real_data: Path) -> None:
    manifest = config.build(real_data / "fsdd")
    assert len(manifest) == 3000
    assert dict(Counter(manifest.splits)) == config.expected_counts()
    assert Counter(manifest.labels.tolist()) == dict.fromkeys(range(10), 300)
    assert Counter(manifest.groups) == dict.fromkeys(
        ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"), 500
    )


@pytest.mark.realdata
def test_real_official_split_is_2700_and_300(real_data: Path) -> None:
    manifest = FsddConfig().build(real_data / "fsdd")
    assert (len(manifest.indices("train")), len(manifest.indices("test"))) == (2700, 300)
