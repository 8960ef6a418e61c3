"""Small files that ask for much: refused in one line, with little memory and time."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.modalities import budget
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.dicom import _in_strips, shown
from multimodal.modalities.ecg import EcgConfig
from multimodal.modalities.speech import SpeechConfig
from multimodal.modalities.video import VideoConfig
from multimodal.modalities.xray import XrayConfig
from multimodal.recordings import Recording
from tests.multimodal.modalities import bombs
from tests.multimodal.modalities import picture_bombs as pictures

SMALL = 1 / 64  # GiB, so that the bombs of the quick tests can be small
SECONDS = 20  # of processor time
ADAPTERS = {
    "speech": SpeechConfig().build(),
    "audio": AudioConfig().build(),
    "ecg": EcgConfig().build(),
    "xray": XrayConfig().build(),
    "video": VideoConfig().build(),
}
LEAD = "ecg.dat 16{} 200 16 0 0 0 0 II"


class Case(NamedTuple):
    """words: of the refusal, "" for a file that is read. part: start and duration."""

    kind: str
    make: bombs.Bomb
    words: str
    part: Mapping[str, Any] = MappingProxyType({})


def text_chunk(kind: bytes) -> bytes:
    import zlib

    return pictures.png_chunk(kind, b"a\0\0" + zlib.compress(bytes(2**28), 9))


CASES = {
    "wav of 1 Hz": Case("speech", bombs.wav, "1 Hz; sound is recorded at"),
    "wav of 1000 Hz": Case("audio", partial(bombs.wav, rate=1000, samples=200_000), "do not fit"),
    "flac claims": Case("speech", bombs.flac_that_claims, "do not fit in 0.015625 GiB"),
    "flac claims, a part": Case(
        "speech", bombs.flac_that_claims, "damaged", {"start": 10.0, "duration": 5.0}
    ),
    "flac of silence": Case("audio", partial(bombs.flac_of_silence, size=2_000), "do not fit"),
    "flac of silence, far": Case(
        "audio", partial(bombs.flac_of_silence, size=18_000), "were decoded", {"start": 1e9}
    ),
    "flac of silence, eight": Case(
        "audio",
        partial(bombs.flac_of_silence, size=5_500, channels=8),
        "were decoded",
        {"start": 1e9},
    ),
    "opus of silence": Case("audio", partial(bombs.ogg_of_silence, seconds=140), "do not fit"),
    "aac of silence": Case(
        "audio", partial(bombs.sound_with_pyav, name="a.m4a", codec="aac", seconds=140), "do not"
    ),
    "a jump in time": Case(
        "audio",
        partial(bombs.sound_with_pyav, name="a.mkv", codec="libopus", seconds=4, jump=10**6),
        "do not fit",
    ),
    "ecg of 0.01 Hz": Case(
        "ecg", partial(bombs.wfdb, first="1 0.01 2000", signal=LEAD.format("")), "no ECG's"
    ),
    "ecg of 0.01 Hz, a part": Case(
        "ecg",
        partial(bombs.wfdb, first="1 0.01 2000", signal=LEAD.format("")),
        "no ECG's",
        {"start": 1.0, "duration": 5.0},
    ),
    "ecg that is late": Case(
        "ecg", partial(bombs.wfdb, first="1 250 2000", signal=LEAD.format(":100000000")), "late"
    ),
    "ecg of nothing": Case("ecg", partial(bombs.wfdb_of_nothing, frames=2**22), "do not fit"),
    "ecg of nothing at all": Case(
        "ecg", partial(bombs.wfdb_of_nothing, frames=10**14), "do not fit"
    ),
    "ecg of repeated segments": Case("ecg", bombs.wfdb_repeated, "do not fit"),
    "ecg of repeated segments, a part": Case(
        "ecg", bombs.wfdb_repeated, "", {"start": 1.0, "duration": 5.0}
    ),
    "ecg of FLAC": Case("ecg", bombs.wfdb_of_flac, "do not fit"),
    "png": Case("xray", partial(pictures.png, width=13_000, height=13_000), "at most 80,000,000"),
    "png within the pixels": Case("xray", partial(pictures.png, width=3_000, height=3_000), "GiB"),
    "png with a text": Case(
        "xray", partial(pictures.png, width=16, height=16, extra=text_chunk(b"zTXt")), "damaged"
    ),
    "png with a profile": Case(
        "xray", partial(pictures.png, width=16, height=16, extra=text_chunk(b"iCCP")), "damaged"
    ),
    "webp": Case("xray", pictures.webp, "pixels"),
    "webp of frames": Case("xray", pictures.webp_animated, "16384 x 16384 pixels"),
    "jpeg of scans": Case(
        "xray", partial(pictures.jpeg_of_scans, side=500), "more than 200 scans of one picture"
    ),
    "tiff of pages": Case("xray", pictures.tiff_of_pages, "several pictures in one file"),
    "tiff of one tile": Case("xray", pictures.tiff_of_one_tile, "tiles of 65520 x 65520 pixels"),
    "dicom that is deflated": Case(
        "xray", partial(pictures.dicom, junk=2**24), "deflated bytes become more"
    ),
    "dicom of sequences": Case("xray", pictures.dicom_of_sequences, "undecodable DICOM"),
    "gif": Case("video", pictures.gif, "gif"),
    "gif within FFmpeg's limits": Case(
        "video", partial(pictures.gif, side=16_000), "16000 x 16000 pixels; at most"
    ),
    "film": Case("video", partial(pictures.film, width=1_024, height=1_024), "pixels; at most"),
    "a list without an end": Case("video", pictures.playlist, "a list of other files"),
    "a list of itself": Case("video", partial(pictures.playlist, kind="itself"), "a list of other"),
    "a list of sound": Case("audio", pictures.playlist, "a list of other files"),
}


@contextmanager
def limits(memory: int, seconds: int) -> Iterator[None]:
    """So many bytes more than now, and so many seconds of processor time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    begin = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - begin < seconds


def loaded(case: Case, folder: Path) -> str:
    """What the adapter says against the file; "" if it is read."""
    path = case.make(folder)
    recording = Recording("bomb", (0,), "train", path=path, **case.part)
    try:
        ADAPTERS[case.kind].load(recording)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", CASES)
def test_a_bomb_costs_little(name: str, tmp_path: Path, monkeypatch) -> None:
    case = CASES[name]
    if case.kind == "video" or "aac" in name or "jump" in name:
        pytest.importorskip("av")
    monkeypatch.setenv(budget.VARIABLE, str(SMALL))
    path = case.make(tmp_path)
    case = case._replace(make=lambda _: path)
    with limits(2**30, SECONDS):
        found = loaded(case, tmp_path)
    assert case.words in found
    assert bool(case.words) == bool(found)
    assert "\n" not in found


# ---- as they come, under the budget that nobody has set ------------------------------------------

LARGE = {
    "flac of silence": Case("speech", bombs.flac_of_silence, "do not fit in 1 GiB"),
    "flac of silence, far": Case("speech", bombs.flac_of_silence, "16 times 1 GiB", {"start": 3e6}),
    "opus of silence": Case("audio", partial(bombs.ogg_of_silence, seconds=9_000), "do not fit"),
    "ecg of nothing": Case("ecg", partial(bombs.wfdb_of_nothing, frames=2**28), "do not fit"),
    "ecg within the budget": Case(
        "ecg", partial(bombs.wfdb_of_nothing, frames=2**24), "misses 16777216 samples in a row"
    ),
    "png": Case("xray", pictures.png, "at most 80,000,000"),
    "png within the budget": Case("xray", partial(pictures.png, width=8_900, height=8_900), ""),
    "dicom of 2 GiB": Case("xray", partial(pictures.dicom, junk=2**31), "become more than"),
    "dicom within the budget": Case("xray", partial(pictures.dicom, side=8_900), ""),
    "gif": Case("video", partial(pictures.gif, side=16_000, frames=3_000), "pixels; at most"),
    "film": Case("video", partial(pictures.film, width=8_176, height=8_176), "pixels; at most"),
}
SLOWEST = 600.0  # seconds by the clock, of one bomb on a busy machine


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_bomb_is_refused_within_three_gibibytes(name: str, tmp_path: Path) -> None:
    def child() -> None:
        with limits(3 * 2**30, 240):
            found = loaded(LARGE[name]._replace(make=lambda _: path), tmp_path)
        assert LARGE[name].words in found, found
        assert bool(found) == bool(LARGE[name].words), found
        assert "\n" not in found

    path = LARGE[name].make(tmp_path)
    assert ended(child) == ""


def ended(work: Callable[[], None]) -> str:
    """Do it in a process of its own; what went wrong there."""
    reader, writer = os.pipe()
    if not (process := os.fork()):
        os.close(reader)
        words = ""
        try:
            signal.alarm(int(SLOWEST))
            work()
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
        os.write(writer, words.encode()[:4_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        words = file.read()
    _, status = os.waitpid(process, 0)
    return words or f"died ({status})" * bool(status)


# ---- the setting --------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "size"), [("", 2**30), ("1", 2**30), ("0.5", 2**29)])
def test_the_budget_is_a_number_of_gibibytes(text: str, size: int, monkeypatch) -> None:
    monkeypatch.setenv(budget.VARIABLE, text)
    assert budget.most_bytes() == size


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf", "1 GiB", "1e9"])
def test_a_budget_that_is_none_is_refused(text: str, monkeypatch) -> None:
    monkeypatch.setenv(budget.VARIABLE, text)
    with pytest.raises(UserError, match=f"^{budget.VARIABLE}={text!r}: .*such as 0.5 or 4"):
        budget.most_bytes()


def test_more_of_a_recording_fits_in_a_larger_budget(tmp_path: Path, monkeypatch) -> None:
    recording = Recording("r", (0,), "train", path=bombs.wav(tmp_path, 16_000, 300_000))
    monkeypatch.setenv(budget.VARIABLE, str(2**-10))
    with pytest.raises(UserError, match=r"19 s of sound at 16000 Hz do not fit in 0.000976562 GiB"):
        ADAPTERS["speech"].load(recording)
    monkeypatch.setenv(budget.VARIABLE, str(2**-9))
    assert ADAPTERS["speech"].load(recording).shape == (1, 300_000)


def test_a_lack_of_memory_names_the_recording() -> None:
    def load(self: object, recording: Recording) -> None:
        raise MemoryError

    with pytest.raises(UserError, match=r"^clip\.wav: decoding it takes more memory than there is"):
        budget.within_memory(load)(None, Recording("clip.wav", (0,), "train"))


def test_what_is_shown_of_an_image_does_not_depend_on_its_strips(monkeypatch) -> None:
    monkeypatch.setattr("multimodal.modalities.dicom.STRIP", 100)
    stored = np.random.default_rng(1).integers(0, 4_096, (37, 53))
    data: Any = {"RescaleSlope": 2.0, "RescaleIntercept": -5.0}
    data = type("Data", (dict,), {"BitsStored": 12, "PixelRepresentation": 0})(data)
    whole = np.clip(shown(stored, data, "x"), 0, 1).astype(np.float32)
    np.testing.assert_array_equal(_in_strips(stored, data, "x"), whole)
