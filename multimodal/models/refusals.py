"""What an objective needs and an alignment has not, said before the first step."""

from __future__ import annotations

from collections.abc import Mapping

from multimodal.errors import UserError
from multimodal.models.case_batch import Beside, Source
from multimodal.models.towers import Aligned
from multimodal.objectives.views import TEXT, ViewsConfig


def refuse_objective(objective: ViewsConfig, model: Aligned) -> None:
    """UserError where an objective needs a frozen text encoder, and the model's is trained, or
    views that the model has not.
    """
    try:
        objective.check_views((*model.signals, TEXT))
    except ValueError as error:
        raise UserError(f"objective {objective.registered_name!r}: {error}") from error
    if objective.needs_frozen_text and not model.text.frozen:
        raise UserError(
            f"objective {objective.registered_name!r} takes its weights from a frozen text "
            "encoder; set text.train=none, without text.lora, or choose clip, siglip or more."
        )


def refuse_lacking(objective: ViewsConfig, beside: Beside) -> None:
    """UserError where an objective needs more of each case than there is."""
    lacking = [n for n in objective.extra_texts if n not in beside.texts]
    lacking += [n for n in objective.extra_signals if n not in beside.signals]
    lacking += ["keys"] if objective.needs_keys and beside.keys is None else []
    if lacking:
        raise UserError(
            f"objective {objective.registered_name!r} compares each case with {', '.join(lacking)} "
            "of its own, and these have captions alone; set compose, or choose clip or cwcl."
        )


def refuse_own(objective: ViewsConfig, who: str) -> None:
    """UserError where an objective trains heads of its own, which ``who`` cannot keep."""
    if objective.own({}) is not None:
        raise UserError(
            f"objective {objective.registered_name!r} trains heads of its own on augmented views, "
            f"and {who} has one view of a recording and no heads of objectives; choose clip or "
            "barlip, or medley align."
        )


def refuse_unaugmented(objective: ViewsConfig, sources: Mapping[str, Source]) -> None:
    """UserError where an objective needs augmented views of a modality that is not augmented."""
    lacking = [name for name, source in sources.items() if source.augment is None]
    if objective.augmented and lacking:
        raise UserError(
            f"objective {objective.registered_name!r} needs {objective.augmented} augmented views "
            f"of each signal, and {', '.join(lacking)} has none: set augment of its modality, or "
            "choose clip."
        )
