"""Sets of utterances spoken by espeak-ng: made once, the same bytes for the same settings."""

from __future__ import annotations

import ctypes
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from multimodal.errors import UserError, how_to_install
from multimodal.files import replacing_folder, sweep
from multimodal.recordings import Manifest, Recording, Slots

SAMPLE_RATE = 16_000  # Hz
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc")
LICENCE = (
    "generated audio, no recordings of people: Medley's phrases (Apache-2.0) spoken by espeak-ng, "
    "a program under GPL-3.0-or-later"
)
CITATION = "espeak-ng, https://github.com/espeak-ng/espeak-ng"
INDEX = "index.json"

# espeak-ng's speak_lib.h.
_SYNCHRONOUS, _DO_NOT_EXIT, _CHARACTERS, _UTF8 = 2, 0x8000, 1, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Utterance(NamedTuple):
    """How one recording is made.

    voice: accent+variant. rate: words a minute, 140 to 200. pitch: 35 to 65 and volume: 50 to 80,
    both on espeak's scale of 0 to 100. snr: speech to noise in dB, 15 to 30. lead: seconds of
    noise before the speech, 0 to 0.2. noise: seed of the noise.
    """

    intent: str
    split: str
    number: int
    text: str
    voice: str
    rate: int
    pitch: int
    volume: int
    snr: float
    lead: float
    noise: int

    @property
    def uid(self) -> str:
        return f"{self.split}/{self.intent}_{self.number:03d}.wav"


def draw_manner(rng: np.random.Generator) -> tuple[int, int, int, float, float, int]:
    """How an utterance is said and recorded: the fields of ``Utterance`` from ``rate`` on."""
    rate, pitch, volume, noise = rng.integers((140, 35, 50, 0), (201, 66, 81, 2**32)).tolist()
    snr, lead = rng.uniform((15.0, 0.0), (30.0, 0.2)).tolist()
    return rate, pitch, volume, snr, lead, noise


def add_noise(speech: np.ndarray, *, snr: float, lead: int, rng: np.random.Generator) -> np.ndarray:
    """White noise under ``speech`` (T,), which then starts at sample ``lead``: (lead + T,) float64.

    The noise's mean power is that of the speech divided by 10^(snr / 10).
    """
    noise = rng.standard_normal(lead + len(speech))
    noise *= np.sqrt(np.mean(speech**2) / (np.mean(noise**2) * 10 ** (snr / 10)))
    noise[lead:] += speech
    return noise


class Synthesizer:
    """One private copy of the espeak-ng library, in its first state.

    espeak-ng carries phases and flutter from one utterance to the next, which neither setting the
    voice again nor terminating and initialising it resets; an unseeded one draws from the clock.
    So the same utterances give the same samples only from a freshly loaded, seeded library and in
    the same order. The system loads a file only once, hence the copy. UserError without the extra
    ``offline``.
    """

    def __init__(self) -> None:
        library, self._data = _wheel()
        # A system that locks loaded libraries cannot delete the copy; that is no reason to fail.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            copy = str(shutil.copy(library, folder))
            try:
                self._lib = ctypes.CDLL(copy)
            except OSError as error:
                raise UserError(
                    f"espeak-ng: cannot load {copy} ({error}); set TMPDIR to a folder on a file "
                    "system that allows programs."
                ) from error
        self._chunks: list[bytes] = []
        self._callback = _Callback(self._receive)  # the library keeps only the address
        self._lib.espeak_Info.restype = ctypes.c_char_p
        self._lib.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        self._lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._lib.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            *[ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint],
            *[ctypes.c_void_p, ctypes.c_void_p],
        ]
        self.sample_rate: int = self._lib.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(self._data), _DO_NOT_EXIT
        )
        if self.sample_rate <= 0:
            raise UserError(
                f"espeak-ng: cannot read its data in {self._data}; install espeakng-loader again, "
                "in a virtual environment with a shorter path if this one is over 150 characters."
            )
        self._lib.espeak_ng_SetRandSeed(1)
        self._lib.espeak_SetSynthCallback(self._callback)
        self.version: str = self._lib.espeak_Info(None).decode().split()[0]

    def say(self, text: str, *, voice: str, rate: int, pitch: int, volume: int) -> np.ndarray:
        """Samples (T,) in [-1, 1] at ``sample_rate``, without silence at both ends."""
        variant = voice.partition("+")[2]
        # espeak-ng takes an unknown variant without a word and speaks in the plain voice.
        assert (self._data / "voices" / "!v" / variant).is_file(), f"no variant {variant!r}"
        status = self._lib.espeak_SetVoiceByName(voice.encode())
        assert status == 0, f"espeak-ng has no voice {voice!r}"
        for number, value in ((_RATE, rate), (_VOLUME, volume), (_PITCH, pitch), (_RANGE, 50)):
            self._lib.espeak_SetParameter(number, value, 0)
        self._chunks.clear()
        data = text.encode()
        self._lib.espeak_Synth(data, len(data) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(self._chunks), np.int16)
        loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 100)
        assert len(loud) > 0, f"espeak-ng said nothing for {text!r}"
        return samples[loud[0] : loud[-1] + 1] / 32768.0

    def close(self) -> None:
        """Free its data; the copy itself stays loaded to the end of the process (0.5 MB)."""
        self._lib.espeak_Terminate()

    def _receive(self, wave, count, events) -> int:
        if wave and count > 0:
            self._chunks.append(ctypes.string_at(wave, 2 * count))
        return 0


def _wheel() -> tuple[Path, Path]:
    """The library and its data in the wheel."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(
            f"synthetic speech needs espeak-ng; {how_to_install('offline')}."
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def make_set(folder: Path, utterances: list[Utterance], *, dataset: str, version: str) -> None:
    """Make the whole set beside ``folder``, then rename: it is there complete or not at all."""
    sweep(folder.parent, shared=None)
    try:
        with closing(Synthesizer()) as synthesizer, replacing_folder(folder) as made:
            for split in {u.split for u in utterances}:
                (made / split).mkdir(parents=True)
            _write(made, utterances, synthesizer, version)
    except UserError as error:
        # Another process that finished first has made the same files.
        if not (folder / INDEX).is_file():
            raise UserError(f"dataset {dataset!r}: {error}") from error


def _write(
    folder: Path, utterances: list[Utterance], synthesizer: Synthesizer, version: str
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for u in progress.track(utterances, description="Making synthetic speech"):
            speech = synthesizer.say(
                u.text, voice=u.voice, rate=u.rate, pitch=u.pitch, volume=u.volume
            )
            speech = soxr.resample(speech, synthesizer.sample_rate, SAMPLE_RATE)
            rng = np.random.default_rng(u.noise)
            noisy = add_noise(speech, snr=u.snr, lead=round(u.lead * SAMPLE_RATE), rng=rng)
            pcm = np.clip(np.round(noisy * 32768), -32768, 32767).astype(np.int16)
            file = io.BytesIO()  # libsndfile does not tell why a disk refuses
            soundfile.write(file, pcm, SAMPLE_RATE, subtype="PCM_16", format="WAV")
            (folder / u.uid).write_bytes(file.getvalue())
    rows = [{"uid": u.uid, **u._asdict()} for u in utterances]
    index = {"version": f"{version}+espeak-ng-{synthesizer.version}", "rows": rows}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")


def _no_slots(text: str) -> Slots:
    return ()


def read_set(
    folder: Path,
    class_names: tuple[str, ...],
    *,
    dataset: str,
    split_rule: str,
    slots_of: Callable[[str], Slots] = _no_slots,
) -> Manifest:
    """The manifest of a set that was made; UserError if it was damaged.

    slots_of: the slots of what is said.
    """
    remedy = f"; delete the folder, and {dataset!r} is made again."
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / INDEX} cannot be read{remedy}") from error
    missing = sum(not (folder / row["uid"]).is_file() for row in index["rows"])
    if missing:
        raise UserError(f"{folder}: {missing} of its wav files are missing{remedy}")
    ids = {name: i for i, name in enumerate(class_names)}
    recordings = tuple(
        Recording(
            uid=row["uid"],
            labels=(ids[row["intent"]],),
            split=row["split"],
            path=folder / row["uid"],
            group=row["voice"],
            text=row["text"],
            slots=slots_of(row["text"]),
        )
        for row in index["rows"]
    )
    return Manifest(
        name=dataset,
        modality="speech",
        class_names=class_names,
        recordings=recordings,
        version=index["version"],
        licence=LICENCE,
        citation=CITATION,
        split_rule=split_rule,
        synthetic=True,
        root=folder,
    )
