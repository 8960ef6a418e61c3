"""Pictures of attention maps: an image, leads over time, a spectrogram, frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands.explain.maps import Map
from benchmarks.reports.pictures import plain, save_figure

HEAT, GREY, OPACITY = "inferno", "gray", 0.45
MOST_FRAMES = 8


def draw(found: Map, path: Path, *, modality: str, signal: bool = True) -> None:
    """Write a PNG. signal: False leaves the recording out and draws the map alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    relevance = found.relevance
    if relevance.ndim == 3:
        _frames(figure, found, signal)
    elif relevance.ndim == 2 and modality != "audio" and modality != "speech":
        _image(figure.add_subplot(), found, signal)
    elif modality == "ecg":
        _leads(figure.add_subplot(), found, signal)
    else:
        _spectrogram(figure, found, signal)
    name = Path(found.part.name).name if signal else "recording"
    figure.suptitle(plain(f"{name}: {found.target} ({found.score:.3g})"), fontsize=9)
    save_figure(figure, path, dpi=120)


def stretched(values: np.ndarray) -> np.ndarray:
    """To [0, 1], for the eye only; zeros where all are equal."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _image(axes: Any, found: Map, signal: bool) -> None:
    height, width = found.relevance.shape
    extent = (0, width, height, 0)
    if signal:
        axes.imshow(found.signal[0], cmap=GREY, extent=extent)
    axes.imshow(
        stretched(found.relevance), cmap=HEAT, alpha=OPACITY if signal else 1, extent=extent
    )
    axes.set_axis_off()


def _leads(axes: Any, found: Map, signal: bool) -> None:
    leads, steps = found.signal.shape
    heat = stretched(found.relevance)[None]
    axes.imshow(
        heat, cmap=HEAT, alpha=OPACITY if signal else 1, aspect="auto", extent=(0, steps, -leads, 1)
    )
    if signal:
        for lead, line in enumerate(found.signal):
            axes.plot(line / 2 - lead, color="black", linewidth=0.6)
    axes.set(xlabel="sample", yticks=[], title="all leads: a token reads every lead")


def _spectrogram(figure: Any, found: Map, signal: bool) -> None:
    top, below = figure.subplots(2, 1, height_ratios=(4, 1) if signal else (1, 1))
    values = found.features if found.features.ndim == 2 else found.features[0]
    over_time = found.relevance if found.relevance.ndim == 1 else found.relevance.mean(0)
    if signal:
        top.imshow(values, origin="lower", aspect="auto", cmap=GREY)
        top.set(ylabel="band", xticks=[])
        if found.relevance.ndim == 2:
            shape = found.relevance.shape
            top.imshow(
                stretched(found.relevance), origin="lower", aspect="auto", cmap=HEAT, alpha=OPACITY,
                extent=(0, values.shape[1], 0, values.shape[0]) if shape != values.shape else None,
            )  # fmt: skip
    else:
        top.set_axis_off()
    below.imshow(stretched(over_time)[None], aspect="auto", cmap=HEAT)
    below.set(yticks=[], xlabel="frame")


def _frames(figure: Any, found: Map, signal: bool) -> None:
    count = len(found.relevance)
    chosen = np.linspace(0, count - 1, min(MOST_FRAMES, count)).round().astype(int)
    heat = stretched(found.relevance)
    rows = 2 if len(chosen) > 4 else 1
    grid = np.atleast_1d(figure.subplots(rows, -(-len(chosen) // rows))).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, frame in zip(grid, chosen, strict=False):
        extent = (0, heat.shape[2], heat.shape[1], 0)
        if signal:
            place = round(frame * (len(found.signal) - 1) / max(count - 1, 1))
            axes.imshow(np.moveaxis(found.signal[place], 0, -1), extent=extent)
        opacity = OPACITY if signal else 1
        axes.imshow(heat[frame], cmap=HEAT, vmin=0, vmax=1, alpha=opacity, extent=extent)
