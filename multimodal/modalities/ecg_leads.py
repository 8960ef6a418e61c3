"""Which row of the canonical ECG a record's signal belongs to, by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from multimodal.errors import UserError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
Lead = Literal["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
# Modified limb leads of Holter recorders show nearly the same projection.
MODIFIED = {"mli": "I", "mlii": "II", "mliii": "III"}


def lead_rows(
    names: Sequence[str], lead_names: Mapping[str, Lead | None], path: Path
) -> list[tuple[int, int]]:
    """(column in the file, row in ``LEADS``) of every lead, by name.

    names: of the record's signals. lead_names: ``EcgConfig.lead_names``. UserError: a name is
    unknown, a lead is there twice, no lead is left.
    """
    known: dict[str, str | None] = {lead.lower(): lead for lead in LEADS}
    known |= MODIFIED
    known |= {name.lower(): lead for name, lead in lead_names.items()}
    unknown = [name for name in names if str(name).strip().lower() not in known]
    if unknown:
        raise UserError(
            f"{path}: {unknown[0]!r} is no lead; leads: {', '.join(LEADS)}. Say in lead_names "
            f"which one it is, or leave it out: lead_names: {{{unknown[0]}: null}}."
        )
    leads = [known[str(name).strip().lower()] for name in names]
    twice = [lead for lead, n in Counter(leads).items() if lead is not None and n > 1]
    if twice:
        raise UserError(
            f"{path}: more than one signal is lead {twice[0]} ({', '.join(names)}); leave one "
            "out with lead_names."
        )
    found = [(c, LEADS.index(lead)) for c, lead in enumerate(leads) if lead is not None]
    if not found:
        raise UserError(f"{path}: lead_names leaves out all of its signals: {', '.join(names)}")
    return found
