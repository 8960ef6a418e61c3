"""What the seeds tell apart: paired tests against the best row, critical-difference diagram."""

from __future__ import annotations

from benchmarks.reports.charts import (
    LETTER,
    escape,
    head,
    marker,
    open_svg,
    scroll,
    svg_text,
)
from benchmarks.reports.lines import SIZES
from benchmarks.reports.numbers import interval_text
from benchmarks.reports.ranking import Ranked
from benchmarks.reports.significance import LEVEL, Ranks, against_best, ranks
from benchmarks.results.metric_names import METRICS

ROW, TOP, BOTTOM, LEFT = 36, 44, 26, 12
CLIQUE = 11  # pixels between the bars of cliques
ONLY = (
    "Seeds are draws of the same stream and of the same learner's beginning: what is told apart "
    "here speaks of other seeds, and not of other data."
)


def apart(table: Ranked) -> str:
    """Both, as HTML; "" where there is nothing to compare or too few seeds."""
    parts = [_tests(table)]
    found = ranks(table)
    if found is not None:
        styles = {name: style for style, name in enumerate(table.runs)}
        parts.append(_diagram(found, METRICS[table.key], styles))
    if not any(parts):
        return ""
    return f'<h3>Told apart by the seeds?</h3><p class="soft">{ONLY}</p>{"".join(parts)}'


def _tests(table: Ranked) -> str:
    found = against_best(table)
    if not found:
        return ""
    best = found[0][0].first
    heads = ("learner", f"{best} − learner", "shared seeds", "p", "p, Holm")
    body = []
    for each, adjusted in found:
        width = interval_text(each.apart, each.apart.seeds, key=table.key)
        cells = (width, str(each.apart.seeds), _p(each.p), _p(adjusted))
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        body.append(f"<tr>{head(each.second, scope='row')}{texts}</tr>")
    caption = (
        f"{METRICS[table.key]}: how far {best} is from the others, percentage points, mean over "
        "the shared seeds ± half width of the 95 % t interval; p: paired t test, two-sided; Holm: "
        f"corrected for {len(found)} comparisons. The best was chosen by the same seeds, which "
        "favours it."
    )
    html = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{''.join(map(head, heads))}</tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table>"
    )
    return f'<div class="card">{scroll(html, "Paired tests")}</div>'


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _diagram(found: Ranks, metric: str, styles: dict[str, int]) -> str:
    charts = "".join(
        f'<div class="{size}">{cd_chart(found, width, metric, styles)}</div>'
        for size, (width, _) in SIZES.items()
    )
    verdict = "differ" if found.p < LEVEL else "cannot be told from chance"
    words = (
        f"Mean rank by {metric} over {found.seeds} seeds, 1 is best; Friedman: "
        f"χ² = {found.chi2:.2f}, p {'= ' * (found.p >= 0.001)}{_p(found.p)}: the ranks {verdict}. "
        f"Rows that a bar at the right joins are not told apart (Nemenyi, {100 * LEVEL:.0f} %, "
        f"critical difference {found.critical:.2f})."
    )
    return f'<div class="card">{charts}<p class="soft">{escape(words)}</p></div>'


def cd_chart(found: Ranks, width: int, metric: str, styles: dict[str, int]) -> str:
    """A row for each learner, its name above its mark on the axis of ranks; bars join cliques.

    styles: of marks, as in the page's other figures.
    """
    count = len(found.names)
    height = TOP + ROW * count + BOTTOM
    right = 16 + CLIQUE * max(1, len(found.cliques))

    def at(rank: float) -> float:
        return LEFT + (rank - 1) / max(count - 1, 1) * (width - LEFT - right - 8)

    title = f"Critical-difference diagram of {metric}"
    told = ", ".join(f"{n}: {r:.2f}" for n, r in zip(found.names, found.mean, strict=True))
    parts = [open_svg(width, height, title, f"Mean ranks: {told}.")]
    end = min(1 + found.critical, float(count))
    parts.append(f'<path class="clique" d="M{at(1):.1f} 24H{at(end):.1f}"/>')
    longer = " (longer than the axis)" if 1 + found.critical > count else ""
    parts.append(svg_text(LEFT, 16, f"critical difference {found.critical:.2f}{longer}", "start"))
    letters = int((width - LEFT - right) / LETTER) - 7
    for place, (name, rank) in enumerate(zip(found.names, found.mean, strict=True)):
        y = TOP + ROW * place + 24
        shown = name if len(name) <= letters else f"{name[: letters - 1]}…"
        parts.append(svg_text(LEFT, y - 10, f"{shown}  {rank:.2f}", "start"))
        parts.append(f'<path class="axis" d="M{at(1):.1f} {y}H{at(count):.1f}"/>')
        parts.append(marker(styles[name], at(rank), y, f"{name}: mean rank {rank:.2f}"))
    for column, (first, last) in enumerate(found.cliques):
        x = width - right + 12 + CLIQUE * column
        top, bottom = (TOP + ROW * place + 24 for place in (first, last))
        parts.append(f'<path class="clique" d="M{x} {top - 8}V{bottom + 8}"/>')
    y = TOP + ROW * count + 16
    parts += [svg_text(at(r), y, str(r), "middle") for r in _some(count, width)]
    return "".join([*parts, "</svg>"])


def _some(count: int, width: int) -> list[int]:
    """Whole ranks whose labels do not touch."""
    every = max(1, -(-count * 24 // (width - 60)))
    return list(range(1, count + 1, every))
