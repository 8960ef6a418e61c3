"""What ``medley compose`` does: the scenes of a config of ``medley align``, as files to hear."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console

from benchmarks.commands.align.config import AlignConfig
from benchmarks.commands.align.data import decode, open_align, with_scenes
from benchmarks.config.idle import refuse_idle
from benchmarks.config.loading import load_config
from benchmarks.runs.composed import Composed
from benchmarks.runs.shared_sound import SOUND, told
from multimodal.bars import bar
from multimodal.composition.manifest import described
from multimodal.errors import UserError
from multimodal.files import replacing_folder, sweep_beside

AT_ONCE, HEARD = 32, 8


def compose(path: Path, overrides: Sequence[str], out: Path) -> None:
    """Write the scenes; UserError: no ``compose`` in the config, another modality than sound, a
    folder that exists, a disk that cannot be written.
    """
    config = load_config(path, overrides, model=AlignConfig)
    refuse_idle([path], overrides, model=AlignConfig)
    if config.compose is None:
        raise UserError(f"{path}: has no compose; say there what scenes are made of.")
    if config.modality.registered_name not in SOUND:
        raise UserError(
            f"modality {config.modality.registered_name!r}: sets are written of sound (audio, "
            "speech); other scenes are composed while training and scoring."
        )
    if out.exists():
        raise UserError(f"--out {out}: exists already; name a new folder, or remove it.")
    data = with_scenes(config, decode(open_align(config), skip_damaged=config.skip_damaged))
    assert data.items is not None
    scenes = data.scenes[max(data.scenes)]  # with twins where an objective asks for them
    sweep_beside(out)
    with replacing_folder(out) as made:
        notice = config.compose.composer.notice  # pyright: ignore[reportAttributeAccessIssue]
        names = _write(scenes, made, "train", notice)
        _lines(made / "train.jsonl", _table(names, scenes))
        _items(data.items, made, notice)
        (made / "index.html").write_text(_page(config, scenes, data.items), "utf-8")
    _tell(out, scenes, data.items, data.shared_sound)


def _table(names: Sequence[str], composed: Composed) -> Iterator[dict[str, str]]:
    """Rows for dataset ``table``; the label is the expression."""
    scenes = composed.scenes
    for name, text, number in zip(names, scenes.captions, scenes.expression, strict=True):
        label = scenes.expressions[number]
        yield {"path": name, "label": label, "text": text, "split": "train"}


def _write(composed: Composed, folder: Path, side: str, notice: str) -> list[str]:
    """The sounds, and what is known of each; their names within the folder."""
    scenes, signals = composed.scenes, composed.signals
    (folder / side).mkdir()
    names = [f"{side}/{row:06d}.flac" for row in range(len(scenes))]
    with bar(f"composing {side}", len(scenes)) as advance:
        for start in range(0, len(scenes), AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, len(scenes)))
            batch = signals.gather(rows)
            for row, signal, length in zip(rows, batch.inputs, batch.lengths.tolist(), strict=True):
                sound = signal[0, :length].numpy()
                # Written by us: libsndfile does not tell why a disk refuses.
                file = io.BytesIO()
                soundfile.write(file, sound, scenes.rate, subtype="PCM_16", format="FLAC")
                (folder / names[row]).write_bytes(file.getvalue())
                advance()
    known = zip(names, described(scenes, composed.pool, notice=notice), strict=True)
    _lines(folder / f"{side}_scenes.jsonl", ({"path": name, **facts} for name, facts in known))
    return names


def _items(composed: Composed, folder: Path, notice: str) -> None:
    names, captions = _write(composed, folder, "items", notice), composed.scenes.captions
    lines = (
        {
            "signals": [names[row] for row in item],
            "captions": [captions[row] for row in item],
            "tags": {"synthetic": "true"},
        }
        for item in composed.items
    )
    _lines(folder / "items.jsonl", lines)


def _lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _page(config: AlignConfig, scenes: Composed, items: Composed) -> str:
    """Some of each, to be heard."""

    def sound(name: str, text: str) -> str:
        return f'<p>{escape(text)}<br><audio controls preload="none" src="{name}"></audio></p>'

    heard = [sound(f"train/{i:06d}.flac", t) for i, t in enumerate(scenes.scenes.captions[:HEARD])]
    parts = ["<h2>Training scenes</h2>", *heard, "<h2>Items</h2>"]
    for item in islice(items.items, HEARD):
        rows = (sound(f"items/{row:06d}.flac", items.scenes.captions[row]) for row in item)
        parts.append(f"<section>{''.join(rows)}<hr></section>")
    title = f"Scenes of {config.dataset.registered_name}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>"
        f"<p>Composed, not recorded: {escape(scenes.signals.manifest.split_rule)}.</p>"
        f"{''.join(parts)}</body></html>\n"
    )


def _tell(out: Path, scenes: Composed, items: Composed, found: Mapping[str, Any] | None) -> None:
    shared, modality = told(found) if found is not None else "", scenes.signals.manifest.modality
    if shared:
        Console(stderr=True).print(f"note: {shared}", markup=False, soft_wrap=True)
    console = Console()
    console.print(
        f"{len(scenes.scenes)} training scenes and {len(items.items)} items of {len(items.scenes)} "
        f"scenes in {out}\n"
        f"listen: {out / 'index.html'}\n"
        f"train: dataset={{name: table, root: {out}, file: train.jsonl, text_column: text, "
        f"modality: {modality}}}; tell apart: dataset={{name: compositional, root: {out}, "
        f"modality: {modality}}}",
        markup=False,
        soft_wrap=True,
    )
