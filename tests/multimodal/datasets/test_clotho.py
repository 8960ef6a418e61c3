"""Clotho on a tiny copy of the official layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.datasets import DATASETS
from multimodal.datasets.clotho import ClothoConfig
from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.signals import SignalCache

HEADER = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5"
FOLDERS = ("development", "validation", "evaluation")


def row(name: str) -> str:
    return f'{name},"Rain, then wind",two of {name},three,four,five'


def make_copy(root: Path, extra: tuple[str, ...] = ()) -> Path:
    (root / "clotho_csv_files").mkdir(parents=True)
    for folder in FOLDERS:
        (root / "clotho_audio_files" / folder).mkdir(parents=True)
        names = ["a b's (1).wav", *(["c.wav"] if folder == "development" else [])]
        lines = [HEADER, *map(row, names), *extra]
        table = root / "clotho_csv_files" / f"clotho_captions_{folder}.csv"
        table.write_text("\n".join(lines), encoding="utf-8")
        for name in names:
            path = root / "clotho_audio_files" / folder / name
            soundfile.write(path, np.full(441, 0.25), 44_100)
    return root


def test_tiny_copy(tmp_path: Path) -> None:
    manifest = ClothoConfig().build(make_copy(tmp_path))
    assert Counter(manifest.splits) == {"train": 10, "validation": 5, "test": 5}
    rows = {r.uid: r for r in manifest}
    first = rows["evaluation/a b's (1).wav#1"]
    assert (first.text, first.labels, first.split) == ("Rain, then wind", (), "test")
    assert rows["development/c.wav#2"].text == "two of c.wav"
    assert first.path == tmp_path / "clotho_audio_files" / "evaluation" / "a b's (1).wav"
    # The same name in two splits is two clips.
    assert first.group != rows["validation/a b's (1).wav#1"].group


def test_captions_reach_the_batch(tmp_path: Path) -> None:
    manifest = ClothoConfig(captions="first").build(make_copy(tmp_path))
    cache = SignalCache(manifest, AudioConfig(sample_rate=44_100).build(), progress=False)
    batch = cache.gather(manifest.indices("test"))
    assert batch.texts == ("Rain, then wind",)
    assert batch.inputs.shape == (1, 1, 441)
    assert batch.labels.shape == (1, 0)


def test_expected_counts() -> None:
    """19,195 captions of 3,839 clips in development."""
    assert ClothoConfig().expected_counts() == {"train": 19_195, "validation": 5_225, "test": 5_225}
    assert sum(ClothoConfig(captions="first").expected_counts().values()) == 5_929


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../d.wav,1,2,3,4,5", "is not the name of a file"),
        ("d.wav,1,2,,4,5", "caption_3 is empty"),
        ("d.wav,1,2", "3 cells for 6 columns"),
    ],
)
def test_bad_row(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"captions_development\.csv, line 4: .*{message}"):
        ClothoConfig().build(make_copy(tmp_path, (line,)))


def test_wrong_folder(tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    with pytest.raises(UserError, match=r"expected clotho_csv_files/.*found archives/\."):
        ClothoConfig().build(tmp_path)


def test_is_registered() -> None:
    assert DATASETS.config("clotho") is ClothoConfig
