"""Pictures of a result: score matrix, online stream, embedding map, similarities."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results.result import Result
from multimodal.files import write_atomically

MOST_NAMES = 40  # written at points and cells
MOST_ROWS = 60  # of a stream
MOST_PIXELS = 500  # rows of a picture


def draw_pictures(result: Result, folder: Path) -> list[Path]:
    """Write what the result has the figures for; the files, of 150 dots an inch."""
    made = []
    for key, draw in (("map", _map), ("similarity", _similarity)):
        if result.evaluation.get(key):
            figure, path = draw(result.evaluation), folder / f"{key}.png"
            save_figure(figure, path, dpi=150)
            made.append(path)
    return made


def save_figure(figure: Any, path: Path, *, dpi: int) -> None:
    """Write a PNG, replaced atomically."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format="png")
    write_atomically(path, picture.getvalue())


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
            axes.annotate(
                plain(name), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8
            )
    shares = [
        f"component {i + 1}: {v:.0%} of the variance between classes"
        for i, v in enumerate(data["explained"])
    ]
    axes.set(xlabel=shares[0], ylabel=shares[1], title="recordings (dots), class prompts (crosses)")
    return figure


def _similarity(evaluation: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    names = [plain(name) for name in evaluation["map"]["class_names"]]
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


def plain(text: str) -> str:
    """For Matplotlib, which takes what stands between two dollar signs for a formula."""
    return text.replace("$", r"\$")


def row_names(rows: list[list[float | None]], names: list[str]) -> list[str]:
    """One name a row; the only row of joint training comes after all experiences."""
    return ["all"] if len(rows) == 1 < len(rows[0]) else names[: len(rows)]


def heat_map(rows: list[list[float | None]], title: str = "accuracy") -> Any:
    """Matplotlib figure of a matrix of scores in [0, 1]; None stays blank."""
    import numpy as np
    from matplotlib.figure import Figure

    values = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=float)
    height, width = values.shape
    size = (min(3 + 0.7 * width, 20), min(2 + 0.5 * height, 20))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value) and values.size <= 400:
            color = "white" if value < 0.6 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=color)
    numbers = [str(j + 1) for j in range(width)]  # the names, lists of classes, are too long
    axes.set_xticks(range(width), numbers)
    axes.set_yticks(range(height), row_names(rows, numbers))
    axes.set(xlabel="test set of experience", ylabel="after experience", title=title)
    return figure


def matrix_name(result: Result) -> str:
    """What the files of a result's matrix are called."""
    return "accuracy_matrix" if result.score == "accuracy" else "auroc_matrix"


def plots(result: Result) -> Iterator[tuple[str, Any]]:
    """(file name, figure) of what a result has to show, drawn one by one."""
    if result.stream:
        yield "stream.png", draw_map(result.stream)
    if result.matrix:
        yield f"{matrix_name(result)}.png", heat_map(result.matrix, result.score)


def draw_map(stream: dict[str, Any]) -> Any:
    """Matplotlib figure of an online stream: recordings of each class (row) in each task."""
    import numpy as np
    from matplotlib.figure import Figure

    counts = np.array(stream["matrix"]) if "matrix" in stream else _binned(stream)
    height, width = counts.shape
    figure = Figure(figsize=(min(4 + 0.7 * width, 20), min(2 + 0.3 * height, 20)))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    image = axes.imshow(counts, aspect="auto", cmap="viridis")
    figure.colorbar(image, label="recordings")
    axes.set_xticks(range(width), [str(t + 1) for t in range(width)])
    several = height < len(stream["classes"])
    if height <= MOST_ROWS and not several:
        axes.set_yticks(range(height), [plain(name) for name in stream["classes"]])
    label = f"{len(stream['classes'])} classes, in {height} rows" if several else "class"
    axes.set(xlabel="task", ylabel=label, title=f"leaked: {stream['leak_share']:.1%}")
    return figure


def _binned(stream: dict[str, Any]) -> np.ndarray:
    """(at most MOST_PIXELS, T) recordings of neighbouring classes together, in each task."""
    classes, tasks = len(stream["classes"]), len(stream["tasks"])
    counts = np.zeros((min(classes, MOST_PIXELS), tasks), dtype=np.int64)
    for label, task, count in stream["cells"]:
        counts[label * len(counts) // classes, task] += count
    return counts
