"""A user's own folders and tables as other systems leave them: names, forms, what lies beside."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.check import Report, check
from multimodal.datasets.extensions import EXTENSIONS
from multimodal.datasets.folder import FolderConfig
from multimodal.datasets.splits import look_alikes
from multimodal.datasets.table import TableConfig
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest, printable

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
TWO = ("x/a.wav", "x/b.wav", "y/c.wav", "y/d.wav")
ROWS = "path,label\na.wav,x\nb.wav,y\nc.wav,x\nd.wav,y\n"


def write(root: Path, *names: str) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(800), 8000, format="WAV")
    return root


def report_of(manifest: Manifest) -> Report:
    return check(manifest, SpeechConfig().build(), progress=False)


def table_of(root: Path, content: str | bytes, name: str = "t.csv") -> Manifest:
    write(root, "a.wav", "b.wav", "c.wav", "d.wav")
    data = content if isinstance(content, bytes) else content.encode()
    (root / name).write_bytes(data)
    return TableConfig(file=name).build(root)


def test_a_folder_has_the_extensions_of_its_modality() -> None:
    for modality, extensions in EXTENSIONS.items():
        assert FolderConfig(modality=modality).extensions == extensions
    assert FolderConfig(modality="video", extensions=(".xyz",)).extensions == (".xyz",)
    # What configs of sound said before they were asked; their hash depends on it.
    sound = [".wav", ".flac", ".ogg", ".mp3", ".opus"]
    assert FolderConfig().dump()["extensions"] == sound
    assert FolderConfig(modality="audio").dump()["extensions"] == sound


def test_what_a_folder_leaves_out_is_counted(tmp_path: Path) -> None:
    write(tmp_path, *TWO, "x/e.m4a", "x/f.m4a", "y/g.WAV", "y/h.aif")
    (tmp_path / "x" / "notes.txt").write_text("")
    (tmp_path / "README.md").write_text("")
    manifest = FolderConfig().build(tmp_path)
    assert len(manifest) == 5
    assert manifest.left_out == {".m4a": 2, ".aif": 1, ".txt": 1}
    report = report_of(manifest)
    expected = "4 file(s) beside the recordings were left out: 2 .m4a, 1 .aif, 1 .txt"
    assert any(warning.startswith(expected) for warning in report.warnings)


def test_other_files_are_only_a_note(tmp_path: Path) -> None:
    write(tmp_path, *TWO)
    (tmp_path / "x" / "LICENCE").write_text("")
    report = report_of(FolderConfig().build(tmp_path))
    assert "1 file(s) beside the recordings were left out: 1 without extension" in report.notes
    assert not report.warnings


@pytest.mark.parametrize(
    "pair",
    [
        ("Dog", "dog"),
        ("dog", "dog "),
        ("dog", "dog\u200b"),
        ("hot dog", "hot\u00a0 dog"),
        (COMPOSED, DECOMPOSED),
        ("1", "1.0"),
        ("1", "01"),
    ],
)
def test_classes_that_look_alike(tmp_path: Path, pair: tuple[str, str]) -> None:
    (alike,) = look_alikes([*pair, "cat"])
    assert sorted(alike) == sorted(pair)
    assert not look_alikes(["dog", "cat", "dogs", "1", "2", "10"])
    write(tmp_path, *[f"{name}/{k}.wav" for name in (*pair, "cat") for k in range(2)])
    warnings = report_of(FolderConfig().build(tmp_path)).warnings
    (warning,) = [w for w in warnings if "look alike" in w]
    assert all(ascii(name) in warning for name in pair)


def test_a_lone_recording_of_a_look_alike_is_explained(tmp_path: Path) -> None:
    rows = f"path,label\na.wav,{COMPOSED}\nb.wav,t\nc.wav,{DECOMPOSED}\nd.wav,t\n"
    with pytest.raises(UserError, match=r"looks like another one \('cafe\\u0301', 'caf\\xe9'\)"):
        table_of(tmp_path, rows)


@pytest.mark.parametrize(
    "content",
    [
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        "sep=;\r\n" + ROWS.replace(",", ";"),
        ROWS.encode("utf-16"),
        ROWS.replace("\n", "\r"),
        ROWS.replace("\n", ",,\n"),
        ROWS.replace("x\n", "x\u200b\n", 1),
        "\ufeff" + ROWS,
    ],
)
def test_tables_of_spreadsheets(tmp_path: Path, content: str | bytes) -> None:
    manifest = table_of(tmp_path, content)
    assert manifest.class_names == ("x", "y")
    assert [manifest.class_names[r.label] for r in manifest] == ["x", "y", "x", "y"]


def test_paths_written_on_another_system(tmp_path: Path) -> None:
    file = unicodedata.normalize("NFD", "é.wav")
    write(tmp_path, "s/b.wav", file)
    rows = f"path,label\ns\\b.wav,x\n{unicodedata.normalize('NFC', file)},x\nc.wav,y\nd.wav,y\n"
    manifest = table_of(tmp_path, rows)
    assert {r.uid for r in manifest} == {"s/b.wav", file, "c.wav", "d.wav"}


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data row 1 is not JSON: a key occurs twice"):
        table_of(tmp_path, '{"path": "a.wav", "label": "x", "label": "y"}\n', "t.jsonl")


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("training", "testing"), ("train", "test", "dev")]
)
def test_names_of_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, *[f"{split}/{c}/{c}.wav" for split in names for c in "xy"])
    write(tmp_path, "__MACOSX/train/x/._a.wav")
    manifest = FolderConfig().build(tmp_path)
    assert manifest.class_names == ("x", "y")
    expected = {"train", "test"} | ({"validation"} if "dev" in names else set())
    assert set(manifest.splits) == expected


def test_train_without_test_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train/x/a.wav", "train/y/b.wav", "val/x/c.wav", "val/y/d.wav")
    with pytest.raises(UserError, match=r"has train/ with folders in it, but no folder 'test'"):
        FolderConfig().build(tmp_path)


def test_printable_names() -> None:
    assert printable("a\udcb2\udce2.wav") == r"a\xb2\xe2.wav"
    assert printable("x\ny\t\x1b[1m\u2028") == r"x\ny\t\x1b[1m\u2028"
    for usual in ("dog bark", "猫\u3000犬", "a\u00a0b", "dog\u200b", r"a\b"):
        assert printable(usual) == usual


@pytest.mark.parametrize("adapter", [SpeechConfig().build(), AudioConfig().build()])
def test_names_that_are_no_utf_8(tmp_path: Path, adapter) -> None:
    write(tmp_path, "x\ny/a.wav", "x\ny/b.wav", "z/c.wav", "z/d.wav")
    try:
        os.rename(os.fsencode(tmp_path / "z/c.wav"), os.fsencode(tmp_path) + b"/z/\xb2\xe2.wav")
        os.rename(os.fsencode(tmp_path / "z"), os.fsencode(tmp_path) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    manifest = FolderConfig().build(tmp_path)
    assert manifest.class_names == (r"caf\xe9", r"x\ny")
    assert manifest.recordings[1].uid == r"caf\xe9/d.wav"
    assert manifest.recordings[0].where.endswith(r"caf\xe9/\xb2\xe2.wav")
    report = check(manifest, adapter, progress=False)
    assert report.ok, report.errors
    everything = [*report.lines(), *manifest.class_names, *(r.uid for r in manifest)]
    json.loads(json.dumps(everything).encode())
    assert not any(c in "\n".join(everything) for c in ("\udcb2", "x\ny"))
    assert manifest.content_hash


def test_a_video_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from tests.multimodal.modalities.video_files import greys_of, write

    plain = write(tmp_path / "a.mp4", [90] * 3)
    odd = tmp_path / os.fsdecode(b"\xb2\xe2.mp4")
    try:
        plain.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    np.testing.assert_allclose(greys_of(odd), 90, atol=4)
