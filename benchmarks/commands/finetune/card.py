"""The model card, ``README.md`` of a result folder."""

from __future__ import annotations

from typing import Any

from benchmarks.reports.page import MEDICAL, RESEARCH_ONLY
from benchmarks.results.model_folder import ADAPTER_FILES, ENCODER_FILE, HERE, ModelFacts
from multimodal.hub import PACKAGES, packaged

LICENCES = {packaged.MINILM: "Apache-2.0", packaged.WHISPER: "MIT"}
SHOWN = {
    "accuracy": "accuracy",
    "majority_accuracy": "accuracy of always the most frequent class",
    "mean_per_class_recall": "mean recall of the classes",
    "macro_auroc": "macro AUROC",
    "mean_average_precision": "mean average precision",
    "mean_average_precision_chance": "mean average precision of a random order (prevalence)",
    "zero_shot_top1": "zero-shot accuracy",
    "other_accuracy_before": "linear probe on other data, before",
    "other_accuracy_after": "linear probe on other data, after",
    "other_auroc_before": "linear probe on other data of several labels, macro AUROC before",
    "other_auroc_after": "linear probe on other data of several labels, macro AUROC after",
}
TASKS = {
    "single_label": "one of {n} classes for each recording",
    "multi_label": "the presence of each of {n} classes",
    "align": "which of {n} class prompts is nearest",
}
PLAIN = """\
```python
from peft import PeftModel
from transformers import AutoModel
base = AutoModel.from_pretrained({base}{revision}, dtype="float32"){within}
encoder = PeftModel.from_pretrained(base, "PATH/OF/THIS/FOLDER").eval()
```
"""


def card(facts: ModelFacts, files: list[str]) -> str:
    """files: names of those in the folder beside the card."""
    data, training, n = facts.dataset, facts.training, len(facts.class_names)
    modality = facts.modality.registered_name
    name = f"{training.get('experiment')}, {facts.method.get('name')}, seed {training.get('seed')}"
    parts = [
        f"# {name}",
        f"Fine-tuned with Medley from {_base(facts)} on {modality} recordings. It tells "
        f"{TASKS[facts.task].format(n=n)}: {_listed(facts.class_names)}.",
        _use(modality),
        "## Data",
        _data(facts),
        "## Metrics",
        _metrics(facts),
        "## Method",
        _method(facts),
        "## Files",
        _files(facts, files),
        "## Licences",
        f"Base: {_base_licence(facts)}. Data: {data.get('licence')}. Weights made from data with "
        "conditions may carry these on.",
    ]
    return "\n\n".join(parts) + "\n"


def _use(modality: str) -> str:
    use = (
        "Intended use: to sort recordings like those it was trained on, and as a start for further "
        "fine-tuning. Other microphones, devices, languages or populations were not measured."
    )
    return f"{use}\n\n**{RESEARCH_ONLY}**" if modality in MEDICAL else use


def _data(facts: ModelFacts) -> str:
    data, training = facts.dataset, facts.training
    made = " The signals are synthetic." if data.get("synthetic") else ""
    return (
        f"{data.get('name')}, version {data.get('version')}, content hash "
        f"{data.get('content_hash')}. {training.get('num_train')} training recordings, split: "
        f"{data.get('split_rule')}.{made} {data.get('citation') or ''}".rstrip()
    )


def _metrics(facts: ModelFacts) -> str:
    training = facts.training
    rows = ["| metric | value | 95 % interval |", "| --- | --- | --- |"]
    for key, words in SHOWN.items():
        value = facts.metrics.get(key)
        if isinstance(value, int | float):
            pair = facts.intervals.get(key)
            within = f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f} %" if pair else "–"
            rows.append(f"| {words} | {100 * value:.1f} % | {within} |")
    told = (
        f"Of the {training.get('num_recordings')} recordings of the {training.get('split')} split; "
        f"intervals: bootstrap over {_drawn(training)}."
    )
    return "\n".join(rows) + f"\n\n{told}"


def _drawn(training: dict[str, Any]) -> str:
    """What the intervals were resampled from."""
    if training.get("resampled") != "groups":
        return "these recordings"
    return f"their {training.get('num_groups')} patients, speakers or sources, each drawn whole"


def _method(facts: ModelFacts) -> str:
    settings = ", ".join(
        f"{k} {v}" for k, v in facts.method.items() if k != "name" and v is not None
    )
    lines = [f"`{facts.method.get('name')}`{f' ({settings})' if settings else ''}."]
    if facts.target_modules:
        lines.append(f"Adapted layers: {', '.join(facts.target_modules)}.")
    count = facts.metrics.get("trained_parameters")
    lines.append(f"{count:,} trained parameters." if isinstance(count, int) else "")
    lines.append(f"Again: `{facts.training.get('command')}`.")
    return " ".join(line for line in lines if line)


def _files(facts: ModelFacts, files: list[str]) -> str:
    lines = [
        "In Python: `from benchmarks import load_model`, then "
        "`load_model(FOLDER).predict(files)`. `medley.json` has class names, modality and "
        "front end; `head.safetensors` is the head."
    ]
    base = facts.base
    if ADAPTER_FILES[1] in files and base is not None and ENCODER_FILE not in files:
        revision = f", revision={base.revision!r}" if base.revision else ""
        place = f".{base.within}" if base.within else ""
        name = base.checkpoint
        lines.append(
            f"The adapter is of transformers' {base.model_class}, and plain PEFT loads it on that "
            "object, without Medley:"
        )
        shown = "BASE" if name in PACKAGES else repr(name)
        lines.append(PLAIN.format(base=shown, revision=revision, within=place))
        if name in PACKAGES:
            lines.append(
                f"`{name}` comes as a package: BASE is the folder that "
                f"`multimodal.hub.local_folder({name!r}, None)` names."
            )
        if getattr(getattr(facts.encoder, "base", None), "window", "") == "cut":
            lines.append(
                "With window: cut, Medley ends positions and attention with the recording, which "
                "transformers' forward does not do: the weights are the same, the outputs are for "
                "recordings of 30 s only."
            )
    elif ADAPTER_FILES[1] in files:
        lines.append(
            f"The adapter stands on the weights in `{ENCODER_FILE}`, which no checkpoint of "
            f"transformers has, so `{ADAPTER_FILES[0]}` names no base; Medley loads both. `medley "
            "merge` writes them as one folder, without an adapter."
        )
    elif ENCODER_FILE in files:
        lines.append(f"No PEFT adapter: the encoder's own weights are `{ENCODER_FILE}`.")
    else:
        lines.append("No PEFT adapter: the encoder is the base as it was.")
    return "\n\n".join(lines)


def _base(facts: ModelFacts) -> str:
    """What the encoder was before."""
    base, before = facts.base, facts.training.get("before")
    if base is None:
        what = f"a {getattr(facts.encoder, 'base', facts.encoder).registered_name} encoder"
    else:
        here = base.checkpoint == HERE
        name = "the checkpoint in this folder" if here else f"`{base.checkpoint}`"
        pinned = f" at {base.revision}" if base.revision else ""
        what = f"{name}{pinned} (weights' digest {base.digest})"
    if facts.training.get("redrawn"):
        return f"{what} with random weights in place of its own" if base else f"{what}, random"
    if before:
        return f"{what} after {before}"
    return what if base is not None else f"{what} of random weights"


def _base_licence(facts: ModelFacts) -> str:
    if facts.training.get("redrawn"):
        return "none (random weights)"
    if facts.base is not None:
        return LICENCES.get(facts.base.checkpoint, "see the checkpoint's page")
    before = facts.training.get("before")
    return f"none of its own; see the data of {before}" if before else "none (random weights)"


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
