"""The report's page: one self-contained HTML file without scripts or network references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.reports.answer import answer
from benchmarks.reports.cases import case_parts
from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.differences import Differences, differences
from benchmarks.reports.figures.alignment import maps, similarities, wordings
from benchmarks.reports.figures.apart import apart
from benchmarks.reports.figures.clinical import MEDICAL, clinical
from benchmarks.reports.figures.losses import losses
from benchmarks.reports.figures.misheard import misheard
from benchmarks.reports.figures.online import anytime, draws
from benchmarks.reports.figures.references import beside_published
from benchmarks.reports.figures.streams import (
    confusions,
    curves,
    forgetting,
    held_out,
    matrices,
    per_class,
)
from benchmarks.reports.items import item_parts
from benchmarks.reports.overview import anchor, overview_html, overviews
from benchmarks.reports.parts import part_html
from benchmarks.reports.provenance import provenance
from benchmarks.reports.ranking import ranked
from benchmarks.reports.style import POLICY, STYLE
from benchmarks.reports.tables import by_learner, comparable, data_title, summarise
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import Result
from multimodal.errors import UserError
from multimodal.files import sweep_beside, write_atomically

RESEARCH_ONLY = "For research, not for clinical use."


def page(
    results: Sequence[Result],
    against: str | Result | None = None,
    *,
    by: str | None = None,
    folder: Path | None = None,
) -> str:
    """The whole page of one experiment's results: a section for each comparable group, below one of
    all streams where these share learners.

    by: the metric that rows are sorted by; None, or one that a group lacks: what its table is
    about. folder: of the page, beside which the runs' journals lie.
    """
    groups = comparable(results)
    title = escape(results[0].experiment)
    sections = overview_html(overviews(results))
    for number, group in enumerate(groups):
        inner = _section(group, against, by, folder)
        sections += f'<section id="{anchor(number)}">{inner}</section>\n'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="icon" href="data:,"><title>{title} – Medley</title>'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>{sections}"
        "</main></body></html>\n"
    )


def _section(
    group: list[Result], against: str | Result | None, by: str | None, folder: Path | None
) -> str:
    """What stands in a section: the answer first, what it stands on last."""
    learners = by_learner(group)
    known = {key for row in summarise(group) for key, value in row.values.items() if value}
    table = ranked(group, by if by in known else None)
    parts = [
        f"<h2>{escape(data_title(group[0]))}</h2>",
        _notes(group[0]),
        answer(table),
        curves(learners),
        anytime(learners),
        losses(learners, folder),
        part_html([*case_parts(group), *item_parts(group)]),
        clinical(learners),
        _difference_table(differences(group, against)),
        apart(table),
        beside_published(group, table),
        matrices(learners),
        held_out(learners),
        forgetting(learners),
        per_class(learners),
        confusions(learners),
        misheard(learners),
        wordings(learners),
        similarities(learners),
        maps(learners),
        draws(group),
        _stream(group),
        provenance(group, learners),
    ]
    return "".join(parts)


def _notes(first: Result) -> str:
    notes = []
    if first.dataset.get("synthetic"):
        notes.append("Synthetic data")
    if first.quick:
        notes.append("Quick run: too short for its numbers to be compared.")
    if set(first.modality.split("+")) & set(MEDICAL):
        notes.append(RESEARCH_ONLY)
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def _difference_table(found: Differences | None) -> str:
    if found is None:
        return ""
    heads = "".join(head(n) for n in ("learner", *(METRICS[k] for k in found.keys), "shared seeds"))
    body = []
    for row in found.rows:
        texts = [*(row.text(key) for key in found.keys), row.seeds_text]
        cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
        body.append(f"<tr>{head(row.row, scope='row')}{cells}</tr>")
    table = (
        f"<table><caption>{escape(found.caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )
    title = f"Difference to {escape(found.reference)}"
    return f'<h3>{title}</h3><div class="card">{scroll(table, "Differences")}</div>'


def _stream(group: list[Result]) -> str:
    first = group[0]
    if not first.experiences:
        return ""
    heads = ("experience", "name", "classes", "train", "test")
    rows = []
    for i, experience in enumerate(first.experiences):
        classes = ", ".join(map(str, experience.get("classes", [])))
        rows.append(
            f"<tr>{head(i + 1, scope='row')}<td>{escape(experience.get('name', ''))}</td>"
            f'<td class="words">{escape(classes)}</td>'
            f"<td>{escape(experience.get('num_train', '–'))}</td>"
            f"<td>{escape(experience['num_test'])}</td></tr>"
        )
    same = all(run.experiences == first.experiences for run in group)
    which = "" if same else f" of seed {first.seed}; other runs split the classes differently"
    table = (
        f'<table class="text"><caption>Recordings of each experience{which}</caption><thead><tr>'
        + "".join(head(name) for name in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return f'<h3>Stream</h3><div class="card">{scroll(table, "Stream")}</div>'


REPORT_FILE = "report.html"


def write_html(
    results: Sequence[Result],
    path: Path,
    *,
    against: str | Result | None = None,
    by: str | None = None,
) -> Path:
    """Write one self-contained page of one experiment's results to the file ``path``.

    against: the row that the others are compared with, see ``differences``. by: see ``page``.
    Raises UserError if there are results of several experiments, or none.
    """
    experiments = sorted({result.experiment for result in results})
    if len(experiments) != 1:
        raise UserError(
            f"a report shows one experiment, not {len(experiments)}"
            f" ({', '.join(experiments) or 'no results'}); give the folder of one of them."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_beside(path)
    write_atomically(path, page(results, against, by=by, folder=path.parent))
    return path
