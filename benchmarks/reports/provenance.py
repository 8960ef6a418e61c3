"""The end of a report's section: on what a run stands, and how to repeat it."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from benchmarks.reports.charts import escape, head, scroll
from benchmarks.results.result import Result


def provenance(group: list[Result], learners: dict[str, list[Result]]) -> str:
    """Data, hardware, code and commands of comparable results, folded."""
    return (
        "<h3>Where these numbers come from</h3><details><summary>Data, hardware and code</summary>"
        f"{_facts(group)}</details>{_repeat(learners)}"
    )


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
