"""PNG files of an alignment run for a tracking store: embedding map and similarity heat map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results.result import Result

MOST_NAMES = 40


def draw_pictures(result: Result, folder: Path) -> list[Path]:
    """Write what the result has the figures for; the files, of 150 dots an inch."""
    made = []
    for key, draw in (("map", _map), ("similarity", _similarity)):
        if result.evaluation.get(key):
            figure, path = draw(result.evaluation), folder / f"{key}.png"
            figure.savefig(path, dpi=150)
            made.append(path)
    return made


def _map(evaluation: dict[str, Any]) -> Any:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    data = evaluation["map"]
    points, prompts = np.array(data["signals"]), np.array(data["classes"])
    colours = colormaps["tab20"](np.arange(len(prompts)) % 20)
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(points[:, 0], points[:, 1], s=12, c=colours[points[:, 2].astype(int)], alpha=0.7)
    axes.scatter(prompts[:, 0], prompts[:, 1], s=80, c=colours, marker="X", edgecolors="black")
    if len(prompts) <= MOST_NAMES:
        for name, (x, y) in zip(data["class_names"], prompts, strict=True):
            axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    shares = [
        f"component {i + 1}: {v:.0%} of the variance between classes"
        for i, v in enumerate(data["explained"])
    ]
    axes.set(xlabel=shares[0], ylabel=shares[1], title="recordings (dots), class prompts (crosses)")
    return figure


def _similarity(evaluation: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    names = evaluation["map"]["class_names"]
    rows = [[np.nan if v is None else v for v in row] for row in evaluation["similarity"]]
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.array(rows, dtype=float), cmap="viridis")
    figure.colorbar(image, ax=axes, label="mean cosine")
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="class prompt", ylabel="recordings of class")
    return figure
