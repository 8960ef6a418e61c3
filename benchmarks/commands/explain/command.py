"""What ``medley explain`` does."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks.commands.explain.drawing import draw
from benchmarks.commands.explain.maps import Map, Query, explain, name_of
from benchmarks.commands.predict.inputs import parts_of
from benchmarks.commands.predict.opened import Asked, open_model
from benchmarks.reports.page import MEDICAL, POLICY, RESEARCH_ONLY, STYLE
from benchmarks.results.files import only_run
from benchmarks.results.model_folder import is_model_folder
from benchmarks.runs.machine import pick_device
from benchmarks.tracking.tracker import send_files
from multimodal.bars import bar
from multimodal.errors import UserError
from multimodal.files import sweep_beside, write_atomically

FOLDER, PAGE = "explain", "explain.html"
MOST = 50


def run_explain(
    model: Path,
    given: Sequence[Path],
    *,
    label: str | None = None,
    text: str | None = None,
    view: str | None = None,
    out: Path | None = None,
    track: bool = False,
) -> None:
    """Draw a map of each recording and a page of all; say where to look.

    UserError: as ``open_model`` and ``explain``, both a label and a text, more than MOST files.
    """
    if label is not None and text is not None:
        raise UserError("--label and --text: a map is of one score; give one of them.")
    device = pick_device("auto", setting="device")
    opened = open_model(model, device, Asked(view=view))
    opened.module.to(device).eval()
    modality = opened.modality.registered_name
    parts = parts_of(given, modality)
    if len(parts) > MOST:
        raise UserError(f"{len(parts)} files: a map is to be looked at; name at most {MOST}.")
    run = model if is_model_folder(model) else only_run(model)
    folder = out or run / FOLDER
    pictures, alone = [], []
    private = modality in MEDICAL
    with bar("explaining", len(parts)) as advance:
        for number, found in enumerate(explain(opened, parts, Query(label, text)), start=1):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name_of(number, found.part)
            sweep_beside(path)
            draw(found, path, modality=modality)
            pictures.append((path, found))
            if track and private:  # the store gets no signal of a patient, nor a file's name
                alone.append(folder / f"map_{number:03d}.png")
                draw(found, alone[-1], modality=modality, signal=False)
            advance()
    page = folder / PAGE
    write_atomically(page, _page(pictures, medical=private))
    if track:
        sent = send_files(run, alone if private else [path for path, _ in pictures], FOLDER)
        words = f"sent to {sent}" if sent else "the run was not tracked, so nothing was sent"
        print(words, file=sys.stderr)
    print(f"{len(pictures)} maps: {page}")


def _page(pictures: Sequence[tuple[Path, Map]], *, medical: bool) -> str:
    parts = []
    for path, found in pictures:
        data = base64.b64encode(path.read_bytes()).decode()
        words = escape(f"{found.part.name}: {found.target} ({found.score:.3g})")
        parts.append(
            f'<figure class="card"><img alt="{words}" src="data:image/png;base64,{data}">'
            f"<figcaption>{words}</figcaption></figure>"
        )
    note = f'<p class="note">{RESEARCH_ONLY}</p>' if medical else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Attention maps – Medley</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>Attention maps</h1>{note}<p>Gradient × attention rollout: bright is what "
        "the score came from. Each map is stretched for the eye; maps are not comparable in "
        f"brightness.</p>{''.join(parts)}</main></body></html>\n"
    )
