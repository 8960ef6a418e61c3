"""The report's page: one self-contained HTML file without scripts or network references."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.reports.cases import case_parts
from benchmarks.reports.charts import escape, head, scroll
from benchmarks.reports.differences import Differences, differences
from benchmarks.reports.figures.alignment import maps, similarities, wordings
from benchmarks.reports.figures.misheard import misheard
from benchmarks.reports.figures.online import anytime, draws
from benchmarks.reports.figures.streams import confusions, curves, forgetting, matrices, per_class
from benchmarks.reports.items import item_parts
from benchmarks.reports.numbers import interval_text
from benchmarks.reports.parts import part_html
from benchmarks.reports.tables import by_learner, columns, comparable, data_title, summarise
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import Result
from multimodal.errors import UserError
from multimodal.files import sweep_beside, write_atomically

MEDICAL = ("ecg", "xray")
RESEARCH_ONLY = "For research, not for clinical use."
# Nothing may be fetched, and nothing runs: a second line of defence behind the escaping.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1a1c20;--soft:#5a6069;
--rule:#d5d9df;--heat:#5aa9e6;--c0:#0072b2;--c1:#c24a00;--c2:#00795a;--c3:#b04a8a;--c4:#8a6100;
--c5:#3a3f47;--c6:#6a4fc4}
@media (prefers-color-scheme:dark){:root{--paper:#121417;--card:#1b1e23;--ink:#e9ebee;
--soft:#a5acb6;--rule:#3a3f47;--heat:#2a72b0;--c0:#56b4e9;--c1:#ff8f4d;--c2:#35c79b;--c3:#e79cc6;
--c4:#e6b422;--c5:#c9ced6;--c6:#b3a1ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:16px}
h1{font-size:1.6rem;line-height:1.2;margin:.4em 0}h2{font-size:1.3rem;margin:1.6em 0 .4em}
h3{font-size:1.05rem;margin:1.6em 0 .4em}
p{margin:.4em 0;max-width:70ch}.soft,caption{color:var(--soft);font-size:.875rem}
.note{border-left:4px solid var(--c1);padding:.3em .8em;background:var(--card);font-weight:600}
.card,details{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px;
margin:10px 0;min-width:0}
summary{cursor:pointer;font-weight:600}
dl{display:grid;grid-template-columns:minmax(6.5em,max-content) minmax(0,1fr);gap:4px 12px;
margin:0}
dt{color:var(--soft)}dd{margin:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:10px}
.grid>*{margin:0}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;
overflow-wrap:normal}
caption{text-align:left;padding:0 0 6px;position:sticky;left:0;max-width:calc(100vw - 56px)}
th,td{padding:4px 7px;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th{font-weight:600}thead th{vertical-align:bottom;border-bottom:2px solid var(--rule)}
tr>:first-child{text-align:left;position:sticky;left:0;background:var(--card)}
th span{display:inline-block;width:max-content;max-width:7em;white-space:normal;
overflow-wrap:anywhere}th[scope=row] span{max-width:10em}
@media (min-width:700px){th[scope=row] span{max-width:18em}}
.text td,.text th{text-align:left;vertical-align:top}
.words{white-space:normal;min-width:14em}
.upright th+th[scope=col] span{writing-mode:vertical-rl;transform:rotate(180deg);width:auto;
max-width:none;height:max-content;max-height:12em;text-align:left}
.heat{background:color-mix(in srgb,var(--heat) var(--v),var(--card));min-width:2.9em}
svg{display:block;width:100%;max-width:540px;height:auto;margin:0 auto;font:12px sans-serif}
svg text{fill:var(--ink)}path.axis{stroke:var(--rule);fill:none}
path.leader{stroke:var(--soft);stroke-width:.6;fill:none}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}
.s5{--c:var(--c5)}.s6{--c:var(--c6)}
path.line{stroke:var(--c);stroke-width:2;fill:none}.band{fill:var(--c);fill-opacity:.14}
path.mark{fill:var(--c);stroke:var(--card);stroke-width:1}.bar{fill:var(--c)}
pre{overflow-x:auto;font-size:.8125rem;margin:.5em 0}code{font-size:.875em}
:focus-visible{outline:2px solid var(--c0);outline-offset:2px}
"""


def page(results: Sequence[Result], against: str | Result | None = None) -> str:
    """The whole page of one experiment's results: a section for each comparable group."""
    groups = comparable(results)
    title = escape(results[0].experiment)
    sections = "".join(_section(group, against) for group in groups)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="icon" href="data:,"><title>{title} – Medley</title>'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>{sections}"
        "</main></body></html>\n"
    )


def _section(group: list[Result], against: str | Result | None) -> str:
    learners = by_learner(group)
    parts = [
        f"<h2>{escape(data_title(group[0]))}</h2>",
        _notes(group[0]),
        _facts(group),
        _results_table(group),
        _difference_table(differences(group, against)),
        part_html([*case_parts(group), *item_parts(group)]),
        curves(learners),
        anytime(learners),
        matrices(learners),
        forgetting(learners),
        per_class(learners),
        confusions(learners),
        misheard(learners),
        wordings(learners),
        similarities(learners),
        maps(learners),
        draws(group),
        _stream(group),
        _repeat(learners),
    ]
    return f"<section>{''.join(parts)}</section>\n"


def _notes(first: Result) -> str:
    notes = []
    if first.dataset.get("synthetic"):
        notes.append("Synthetic data")
    if first.quick:
        notes.append("Quick run: too short for its numbers to be compared.")
    if set(first.modality.split("+")) & set(MEDICAL):
        notes.append(RESEARCH_ONLY)
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def _facts(group: list[Result]) -> str:
    first, dataset = group[0], group[0].dataset
    hardware = dict.fromkeys(_words(result.hardware) for result in group)
    packages = dict.fromkeys(_words(result.packages) for result in group)
    commits = dict.fromkeys(result.git_commit or "unknown" for result in group)
    facts = {
        "Experiment": first.experiment,
        "Dataset": dataset.get("name", "unknown"),
        "Version": dataset.get("version", "unknown"),
        "Content hash": dataset.get("content_hash", "unknown"),
        "Files hash": dataset.get("files_hash", "unknown"),
        "Licence": dataset.get("licence", "unknown"),
        "Split": dataset.get("split_rule") or "unknown",
        "Shared groups": dataset.get("group_overlap") or "none found by the leak checker",
        "Modality": first.modality,
        "Scenario": first.scenario,
        "Hardware": " / ".join(hardware),
        "Code": ", ".join(commits),
        "Packages": " / ".join(packages),
    }
    rows = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return f'<div class="card"><dl>{rows}</dl></div>'


def _words(mapping: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in mapping.items()) or "unknown"


def _results_table(group: list[Result]) -> str:
    rows = summarise(group)
    shown = columns(rows)
    names = ["learner", *(METRICS[key] for key in shown), "seeds", "seconds"]
    heads = "".join(head(name) for name in names)
    body = []
    for row in rows:
        texts = [interval_text(row.values.get(key), row.seeds, key=key) for key in shown]
        cells = "".join(f"<td>{t}</td>" for t in [*texts, str(row.seeds), f"{row.seconds:.1f}"])
        body.append(f"<tr>{head(row.learner, scope='row')}{cells}</tr>")
    caption = "Percent; mean ± half width of the 95 % interval (Student t) over seeds"
    table = (
        f"<table><caption>{caption}; seconds: mean of a run</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )
    return f'<h3>Results</h3><div class="card">{scroll(table, "Results")}</div>'


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


def _repeat(learners: dict[str, list[Result]]) -> str:
    heads = ("learner", "seed", "command", "seconds", "peak memory", "started")
    rows, configs = [], []
    for label, runs in learners.items():
        for run in runs:
            folder = f"{run.config.get('output_dir', 'runs')}/{run.experiment}/{run.config_hash}"
            command = f"medley {run.command} {shlex.quote(f'{folder}/config.yaml')}"
            memory = ", ".join(
                f"{key} {value / 2**20:.0f} MiB" for key, value in run.peak_memory_bytes.items()
            )
            cells = [f"<td>{run.seed}</td><td><code>{escape(command)}</code></td>"]
            cells.append(f"<td>{run.seconds:.1f}</td><td>{escape(memory or '–')}</td>")
            cells.append(f"<td>{escape(run.started or '–')}</td>")
            rows.append(f"<tr>{head(label, scope='row')}{''.join(cells)}</tr>")
        text = yaml.safe_dump(runs[0].config, sort_keys=False, allow_unicode=True)
        configs.append(
            f"<details><summary>config.yaml: {escape(label)}, seed {runs[0].seed}</summary>"
            f"<pre><code>{escape(text)}</code></pre></details>"
        )
    table = (
        '<table class="text"><caption>Each run folder keeps its config.yaml</caption><thead><tr>'
        + "".join(head(name) for name in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return (
        f'<h3>Repeat these runs</h3><div class="card">{scroll(table, "Commands")}</div>'
        + "".join(configs)
    )


REPORT_FILE = "report.html"


def write_html(
    results: Sequence[Result], path: Path, *, against: str | Result | None = None
) -> Path:
    """Write one self-contained page of one experiment's results to the file ``path``.

    against: the row that the others are compared with, see ``differences``.
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
    write_atomically(path, page(results, against))
    return path
