"""``medley datasets check``: every fault is planted, then must be found."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from multimodal.check import LISTED, check
from multimodal.datasets.fsdd import FsddConfig
from multimodal.datasets.splits import Unverified
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest, Recording


class Wav:
    """A minimal adapter: mono float at the file's rate."""

    length_axis, dtype, fingerprint, channels, axes = -1, torch.float32, "wav", 1, 1
    config = SpeechConfig(sample_rate=8000)

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def load(self, recording: Recording) -> Tensor:
        self.threads.add(threading.get_ident())
        if recording.make is not None:
            return torch.from_numpy(recording.make())
        assert recording.path is not None
        try:
            values, _ = soundfile.read(recording.path, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{recording.path}: cannot be decoded") from error
        return torch.from_numpy(values)[None]

    def front_end(self):
        raise AssertionError

    def describe(self, class_name: str) -> list[str]:
        raise AssertionError(class_name)


def tone(seed: int, length: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, length).astype(np.float32)


def manifest_of(root: Path, **fields) -> Manifest:
    """Classes a and b, one recording in each of train and test: a0 a1 b0 b1, 10 to 40 ms."""
    rows = []
    for i, (name, split) in enumerate(
        [("a0", "train"), ("a1", "test"), ("b0", "train"), ("b1", "test")]
    ):
        path = root / f"{name}.wav"
        soundfile.write(path, tone(i, 80 * (i + 1)), 8000)
        rows.append(Recording(path.name, ("ab".index(name[0]),), split, path=path, group=name))
    fields = {"name": "tiny", "class_names": ("a", "b"), "recordings": tuple(rows), **fields}
    return Manifest(modality="speech", version="1", split_rule="by hand", **fields)


def run(manifest: Manifest, **options):
    return check(manifest, Wav(), progress=False, **options)


def test_sound_data(tmp_path: Path) -> None:
    report = run(manifest_of(tmp_path), expected={"train": 2, "test": 2})
    assert report.ok
    assert report.errors == report.warnings == []
    assert report.notes == ["no group stands on both sides of a split"]
    assert report.counts == {"train": [1, 1], "validation": [0, 0], "test": [1, 1]}
    assert report.lengths == (80, 320)
    assert report.lines() == [
        "tiny (1): 4 recordings",
        "split: by hand",
        "",
        "class       train  validation        test",
        "a               1           0           1",
        "b               1           0           1",
        "all             2           0           2",
        "",
        "length: 0.01 to 0.04 s (80 to 320 steps at 8000 Hz)",
        "note: no group stands on both sides of a split",
        "ready to use: 0 error(s), 0 warning(s)",
    ]


def test_bad_recordings_are_named(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    (tmp_path / "a0.wav").unlink()
    (tmp_path / "a1.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "b0.wav", np.zeros(0, dtype=np.float32), 8000)
    soundfile.write(tmp_path / "b1.wav", np.array([0.1, np.nan]), 8000, subtype="FLOAT")
    report = run(manifest)
    assert not report.ok
    assert report.errors == [
        f"{tmp_path / 'a0.wav'}: missing",
        f"{tmp_path / 'a1.wav'}: cannot be decoded",
        f"{tmp_path / 'b0.wav'}: empty",
        f"{tmp_path / 'b1.wav'}: has NaN or infinite values",
    ]
    assert report.lines()[-1] == "not fit for use: 4 error(s), 0 warning(s)"


def test_silence_is_a_warning(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    soundfile.write(tmp_path / "b0.wav", np.zeros(50, dtype=np.float32), 8000)
    report = run(manifest)
    assert report.ok
    assert report.warnings == [f"{tmp_path / 'b0.wav'}: constant (silent or blank)"]


def test_the_recording_is_named_where_the_adapter_does_not(tmp_path: Path) -> None:
    class Terse(Wav):
        def load(self, recording: Recording) -> Tensor:
            raise UserError("too short\nby far")

    report = check(manifest_of(tmp_path), Terse(), progress=False)
    assert report.errors[0] == f"{tmp_path / 'a0.wav'}: too short by far"
    assert report.lengths is None
    assert not any(line.startswith("length") for line in report.lines())


def test_a_fault_of_the_program_is_raised_with_the_name(tmp_path: Path) -> None:
    class Broken(Wav):
        def load(self, recording: Recording) -> Tensor:
            raise RuntimeError("shape")

    with pytest.raises(RuntimeError, match="shape") as caught:
        check(manifest_of(tmp_path), Broken(), progress=False)
    assert caught.value.__notes__ == [f"while decoding {tmp_path / 'a0.wav'}"]


def test_slots_are_noted(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    rows = tuple(replace(r, slots=(("object", "lights"),)) for r in manifest)
    assert run(replace(manifest, recordings=rows)).notes[-1] == (
        f"{len(rows)} of {len(rows)} recordings have slots: object ({len(rows)})"
    )


def test_expected_counts(tmp_path: Path) -> None:
    report = run(
        manifest_of(tmp_path),
        expected={"train": 2700, "validation": Unverified(3), "test": Unverified(2)},
    )
    assert report.errors == ["split 'train': 2 recordings; the complete official data have 2,700"]
    assert report.warnings == ["split 'validation': 0 recordings; 3 are reported (unverified)"]


def test_classes_and_splits_without_recordings(tmp_path: Path) -> None:
    full = manifest_of(tmp_path, class_names=("a", "b", "c"))
    report = run(full.select([0, 1, 2]))
    assert report.errors == ["class 'c' has no recordings"]
    assert report.warnings == ["class 'b' has no test recordings"]
    report = run(full.select([0, 2]))
    assert report.errors == ["no test recordings", "class 'c' has no recordings"]
    assert report.warnings == []


def test_same_content_on_both_sides(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    shutil.copy(tmp_path / "a0.wav", tmp_path / "b1.wav")
    shutil.copy(tmp_path / "a0.wav", tmp_path / "b0.wav")  # the same split: not a leak
    report = run(manifest)
    first, other = tmp_path / "a0.wav", tmp_path / "b1.wav"
    assert report.ok
    assert report.warnings == [
        f"{first} (train) and {other} (test) have the same content: a leak between splits"
    ]


def test_same_size_is_not_same_content(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    for i, name in enumerate(("a0", "a1", "b0", "b1")):
        soundfile.write(tmp_path / f"{name}.wav", tone(i), 8000)
    assert run(manifest).warnings == []


def test_cuts_of_one_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", tone(0), 8000)
    cuts = [("1", "train", 0.0), ("2", "test", 1.0), ("3", "train", 1.0)]
    rows = [
        Recording(uid, (0,), split, path=tmp_path / "long.wav", start=start, duration=1.0)
        for uid, split, start in cuts
    ]
    report = run(manifest_of(tmp_path, class_names=("a",), recordings=tuple(rows)))
    only = "'a' is the only class: nothing to tell apart"
    assert report.warnings[0] == only
    assert len(report.warnings) == 2
    assert "the same content" in report.warnings[1]
    assert run(manifest_of(tmp_path, class_names=("a",), recordings=tuple(rows[:2]))).warnings == [
        only
    ]


def test_official_overlap_and_unknown_groups_are_noted(tmp_path: Path) -> None:
    def rows(group: str) -> tuple[Recording, ...]:
        return tuple(
            Recording(split, (0,), split, group=group, make=lambda: tone(0)[None])
            for split in ("train", "test")
        )

    fields = {"class_names": ("a",), "group_overlap": "the official split shares speakers"}
    report = run(manifest_of(tmp_path, recordings=rows("ann"), **fields))
    assert report.notes == [
        "1 group(s) stand on both sides of a split: the official split shares speakers"
    ]
    report = run(manifest_of(tmp_path, recordings=rows(""), **fields))
    assert "leaks between splits cannot be seen" in report.notes[0]


def test_long_lists_are_cut(tmp_path: Path) -> None:
    rows = tuple(
        Recording(f"{i:03}", (0,), ("train", "test")[i % 2], path=tmp_path / f"{i}.wav")
        for i in range(LISTED + 7)
    )
    report = run(manifest_of(tmp_path, class_names=("a",), recordings=rows))
    assert len(report.errors) == LISTED + 7
    lines = report.lines()
    assert sum(line.startswith("error: ") for line in lines) == LISTED + 1
    assert "error: ... and 7 more" in lines


def test_workers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="workers 0 must be at least 1"):
        run(manifest_of(tmp_path), workers=0)
    adapter = Wav()
    check(manifest_of(tmp_path), adapter, workers=1, progress=False)
    assert threading.get_ident() not in adapter.threads
    assert len(adapter.threads) == 1


def test_progress_goes_to_standard_error(tmp_path: Path, capsys) -> None:
    check(manifest_of(tmp_path), Wav(), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert run(manifest_of(tmp_path)).ok
    assert capsys.readouterr().err == ""


def test_truncated_file_with_the_speech_adapter(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    path = tmp_path / "b1.wav"
    path.write_bytes(path.read_bytes()[:-100])
    soundfile.write(tmp_path / "b0.wav", np.zeros(50, dtype=np.float32), 8000)
    report = check(manifest, SpeechConfig().build(), progress=False)
    assert len(report.errors) == 1
    assert report.errors[0].startswith(f"{path}: truncated")
    assert report.warnings == [f"{tmp_path / 'b0.wav'}: constant (silent or blank)"]


@pytest.mark.realdata
def test_real_fsdd_is_sound(real_data: Path) -> None:
    config = FsddConfig()
    report = run(config.build(real_data / "fsdd"), expected=config.expected_counts())
    assert report.errors == []
    assert report.counts["test"] == [30] * 10
    assert report.counts["train"] == [270] * 10
    assert report.notes == [
        "6 group(s) stand on both sides of a split: the official split shares speakers"
    ]
    assert report.lengths is not None
    assert round(report.lengths[0] / 8000, 2) == 0.14
    assert round(report.lengths[1] / 8000, 2) == 2.28


@pytest.mark.realdata
def test_real_fsdd_with_the_speech_adapter(real_data: Path) -> None:
    config = FsddConfig(split="speaker")
    manifest = config.build(real_data / "fsdd")
    rows = np.concatenate([manifest.indices("train")[::50], manifest.indices("test")[::50]])
    report = check(manifest.select(rows), SpeechConfig().build(), progress=False)
    assert report.errors == []
    assert report.notes == ["no group stands on both sides of a split"]
    assert report.lengths is not None
    assert "at 16000 Hz)" in "\n".join(report.lines())
    assert 0.1 * 16_000 < report.lengths[0] < report.lengths[1] < 2.5 * 16_000
