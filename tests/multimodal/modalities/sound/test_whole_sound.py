"""Sound is read whole: chains, open lengths, lengths that lie, parts, late beginnings."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.errors import UserError
from tests.multimodal.modalities.sound.sound_files import ALL, RATE, encoded, frames, load, sweep


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path, **fields) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **fields)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def decoded_by_pyav(path: Path) -> np.ndarray:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        pieces = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    signal = np.concatenate(pieces)
    return signal / 2**15 if signal.dtype == np.int16 else signal


@pytest.mark.parametrize("name", ["vorbis.ogg", "opus.ogg", "a.flac", "vbr.mp3", "cbr.mp3"])
def test_streams_that_follow_one_another_are_all_read(tmp_path: Path, name: str) -> None:
    one, two = (encoded(name, sweep(seconds)) for seconds in (1.0, 0.7))
    parts = [load(written(tmp_path / f"{i}", c)) for i, c in enumerate((one, two, one))]
    chain = load(written(tmp_path / "chain", one + two + one))
    assert len(chain) == sum(map(len, parts))
    if name != "cbr.mp3":  # without headers it is one stream, whose filters run on
        np.testing.assert_array_equal(chain, np.concatenate(parts))
    middle = load(tmp_path / "chain", start=0.9, duration=0.5)
    np.testing.assert_array_equal(middle, chain[14_400:22_400])


@pytest.mark.parametrize("name", ["vorbis.ogg", "a.flac", "vbr.mp3", "adts.aac"])
def test_streams_of_different_rates_are_refused(tmp_path: Path, name: str) -> None:
    other = encoded(name, sweep(1.0, 24_000), 24_000)
    path = written(tmp_path / name, encoded(name, sweep()) + other)
    assert "split the file" in refused(path)


def test_adts_streams_follow_one_another(tmp_path: Path) -> None:
    content = encoded("adts.aac", sweep())
    one = load(written(tmp_path / "one.aac", content))
    assert len(load(written(tmp_path / "two.aac", 2 * content))) == 2 * len(one)
    assert "truncated" in refused(written(tmp_path / "cut.aac", content[:-5]))


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *((name, RATE) for name in ALL),
        *(
            (name, rate)
            for name in ("vorbis.ogg", "opus.ogg", "vbr.mp3")
            for rate in (8000, 24_000)
        ),
    ],
)
def test_parts_are_slices_of_the_whole(tmp_path: Path, name: str, rate: int) -> None:
    """To the bit; libsndfile's own seek misses by up to 0.3 of full scale (Vorbis at 8 kHz)."""
    path = written(tmp_path / name, encoded(name, sweep(2.0, rate), rate))
    own = 48_000 if name in ("opus.mka", "opus.webm") else rate
    whole = load(path, own)
    for start in (0.0, 0.061, 0.35, 0.93, 1.4):
        part = load(path, own, start=start, duration=0.25)
        first = round(start * own)
        np.testing.assert_array_equal(part, whole[first : first + round(0.25 * own)])
    tail = load(path, own, start=1.1)
    np.testing.assert_array_equal(tail, whole[round(1.1 * own) :])


@pytest.mark.parametrize("name", ["cbr.mp3", "novbr.mp3", "layer2.mp2"])
def test_mpeg_without_a_header_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, encoded(name, sweep(3.0)))
    peer = decoded_by_pyav(path)
    np.testing.assert_allclose(load(path), peer, atol=0.01)
    path.write_bytes(path.read_bytes()[:-40])
    assert "truncated" in refused(path)


@pytest.mark.parametrize("name", ["gsm.wav", "g721.au"])
def test_codecs_that_cannot_seek(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, encoded(name, sweep()))
    with soundfile.SoundFile(path) as file:
        expected = file.read(file.frames, dtype="float32")
    np.testing.assert_array_equal(load(path), expected)


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("name", ["pcm16.wav", "gsm.wav", "pcm16.au", "pcm16.aiff"])
def test_a_length_that_was_never_filled_in(tmp_path: Path, name: str, stated: int) -> None:
    content = bytearray(encoded(name, sweep()))
    whole = load(written(tmp_path / "whole", bytes(content)))
    write_size(content, name, stated)
    np.testing.assert_array_equal(load(written(tmp_path / name, bytes(content))), whole)


def write_size(content: bytearray, name: str, size: int) -> int:
    """Put another size of the samples into the header; the one before it."""
    order = "<" if name.endswith(".wav") else ">"
    word = {"wav": b"data", "iff": b"SSND", "svx": b"BODY"}.get(name[-3:])
    at = 8 if word is None else content.index(word) + 4
    before = struct.unpack_from(order + "I", content, at)[0]
    struct.pack_into(order + "I", content, at, size)
    return before


@pytest.mark.parametrize("share", [0.5, 1.5])
@pytest.mark.parametrize("name", ["pcm16.wav", "gsm.wav", "pcm16.au", "pcm16.aiff", "pcm16.svx"])
def test_a_length_that_is_wrong_is_named(tmp_path: Path, name: str, share: float) -> None:
    content = bytearray(encoded(name, sweep()))
    size = write_size(content, name, 0)
    write_size(content, name, int(share * size) // 2 * 2)
    message = refused(written(tmp_path / name, bytes(content)))
    assert "bytes of samples" in message
    assert str(int(share * size) // 2 * 2 - (8 if name.endswith("aiff") else 0)) in message


def test_an_empty_wav_stays_empty_and_two_in_one_file_are_refused(tmp_path: Path) -> None:
    none = bytearray(encoded("pcm16.wav", sweep()[:0]))
    none += b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert "no samples" in refused(written(tmp_path / "none.wav", bytes(none)))
    two = encoded("pcm16.wav", sweep()) * 2
    assert "damaged" in refused(written(tmp_path / "two.wav", two))


@pytest.mark.parametrize(
    "name", ["pcm16.nist", "pcm16.avr", "pcm16.voc", "pcm16.w64", "pcm16.rf64"]
)
def test_rarer_containers_that_were_cut(tmp_path: Path, name: str) -> None:
    content = encoded(name, sweep())
    assert "truncated" in refused(written(tmp_path / name, content[:-500]))


def test_a_format_that_cannot_be_checked(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mat", sweep(), RATE, format="MAT5")
    assert "MAT5 is whole cannot be checked" in refused(tmp_path / "a.mat")


@pytest.mark.parametrize("total", [0, 8000, 20_000, 2**36 - 1])
def test_flac_that_states_another_length(tmp_path: Path, total: int) -> None:
    content = bytearray(encoded("a.flac", sweep()))
    whole = load(written(tmp_path / "whole.flac", bytes(content)))
    content[21] = content[21] & 0xF0 | total >> 32
    content[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    path = written(tmp_path / "a.flac", bytes(content))
    if total == 0:  # the specification's word for unknown
        np.testing.assert_array_equal(load(path), whole)
    elif total == 2**36 - 1:
        assert "4,294,967 s of sound at 16000 Hz do not fit in 1 GiB" in refused(path)
    else:
        assert f"announces {total} frames but 16000" in refused(path)


@pytest.mark.parametrize("rate", [1, 100, 999, 1_000_001, 2**30])
def test_rates_of_no_recording(tmp_path: Path, rate: int) -> None:
    content = bytearray(encoded("pcm16.wav", sweep()))
    struct.pack_into("<II", content, 24, rate, min(2 * rate, 2**32 - 1))
    assert f"states {rate} Hz" in refused(written(tmp_path / "a.wav", bytes(content)))


def test_more_than_fits_in_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    head = bytearray(encoded("ulaw.wav", sweep()))
    begin = head.index(b"data") + 8
    struct.pack_into("<I", head, begin - 4, 2**28 + 2)
    with path.open("wb") as file:
        file.write(head[:begin])
        file.truncate(begin + 2**28 + 2)  # a hole, not bytes on the disk
    assert "do not fit in 1 GiB (MEDLEY_RECORDING_GIB); give the recording a start" in refused(path)
    assert load(path, start=3600.0, duration=0.5).shape == (8000,)


def test_a_flipped_bit_and_a_missing_page_of_ogg(tmp_path: Path) -> None:
    """libvorbis leaves such pages out: a second of ten was gone without a word."""
    content = bytearray(encoded("vorbis.ogg", sweep(10.0)))
    pages = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
    missing = content[: pages[3]] + content[pages[4] :]
    assert "does not follow" in refused(written(tmp_path / "a.ogg", bytes(missing)))
    content[pages[3] + 400] ^= 4
    assert f"page at byte {pages[3]} is wrong" in refused(
        written(tmp_path / "b.ogg", bytes(content))
    )


def test_a_header_with_a_wrong_checksum(tmp_path: Path) -> None:
    content = bytearray(encoded("vbr.mp3", sweep()))
    mark = max(content.find(b"Xing"), content.find(b"Info"))
    content[mark + 142] ^= 0x40  # the padding, which is not played
    assert "damaged in its first frame" in refused(written(tmp_path / "a.mp3", bytes(content)))


def test_a_last_frame_that_is_gone_or_empty(tmp_path: Path) -> None:
    """Some encoders count the header's own frame, which is no licence to lose one."""
    content = encoded("vbr.mp3", sweep())
    last = content.rindex(content[:2])
    assert "announces" in refused(written(tmp_path / "a.mp3", content[:last]))
    whole = encoded("cbr.mp3", sweep())
    empty = whole[: 10 * 288] + bytes(len(whole) - 10 * 288)
    assert "neither an MPEG frame nor a tag" in refused(written(tmp_path / "b.mp3", empty))


def test_flac_whose_header_and_frames_state_different_rates(tmp_path: Path) -> None:
    content = bytearray(encoded("a.flac", sweep()))
    content[18:20] = (12_000 >> 4).to_bytes(2, "big")
    assert "12000 Hz and its frames 16000 Hz" in refused(
        written(tmp_path / "a.flac", bytes(content))
    )


@pytest.mark.parametrize("name", ["opus.mka", "aac.mka", "flac.mka", "opus.webm", "aac.m4a"])
def test_pyavs_containers_that_were_cut(tmp_path: Path, name: str) -> None:
    content = encoded(name, sweep())
    for share in (0.3, 0.6, 0.95):
        assert "truncated" in refused(
            written(tmp_path / name, content[: int(share * len(content))])
        )


def test_a_title_in_latin_1(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Gr__e"
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        for frame in frames(sweep(), RATE):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    whole, content = load(path), path.read_bytes()
    path.write_bytes(content.replace(b"Gr__e", "Größe".encode("latin-1")))
    assert path.read_bytes() != content
    np.testing.assert_array_equal(load(path), whole)


def write_film(path: Path, late: float, codec: str) -> None:
    """Black pictures, and a tone that sounds from 1 s after the sound's beginning, at ``late``."""
    av = pytest.importorskip("av")
    rate = 48_000
    signal = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate).astype(np.float32)
    signal[:rate] = 0
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono")
        convert = av.AudioResampler(
            format=sound.codec_context.format, frame_size=sound.codec_context.frame_size or 1024
        )
        for number in range(round(10 * (3 + late))):
            image = av.VideoFrame(64, 64, "yuv420p")
            image.pts, image.time_base = number, Fraction(1, 10)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        for frame in [*frames(signal, rate, round(late * rate)), None]:
            for piece in convert.resample(frame):
                container.mux(sound.encode(piece))
        container.mux(sound.encode(None))


@pytest.mark.parametrize("late", [0.0, 0.3, 2.0])
@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mp4", "aac"), ("mp4", "alac"), ("mov", "pcm_s16le"), ("mkv", "libopus"), ("mkv", "flac")],
)
def test_late_sound_keeps_its_place(tmp_path: Path, ending: str, codec: str, late: float) -> None:
    path = tmp_path / f"a.{ending}"
    write_film(path, late, codec)
    signal = load(path, 48_000)
    begin = np.argmax(np.abs(signal) > 0.2) / 48_000
    assert abs(begin - (1 + late)) < 0.003
    assert abs(len(signal) / 48_000 - (3 + late)) < 0.03
    part = load(path, 48_000, start=0.9 + late, duration=0.4)
    np.testing.assert_array_equal(part, signal[round((0.9 + late) * 48_000) :][: len(part)])
