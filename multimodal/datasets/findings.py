"""What readers of chest X-rays share: mined labels, partly uncertain, and validation patients.

CheXpert's labeller (Irvin et al., AAAI 2019) writes for every finding 1 (present), 0 (absent), -1
(uncertain) or nothing (not mentioned). What an uncertain label means is a policy, which the
readers' configs explain; not mentioned always counts as absent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from multimodal.errors import UserError, did_you_mean
from multimodal.recordings import Recording

Policy = Literal["u_zeros", "u_ones", "u_map", "u_multi", "u_drop", "u_ignore"]
# The policy that GLoRIA's and MoRE's code use; it is defined for the competition's classes only.
MAPPED = {
    "Atelectasis": True,
    "Cardiomegaly": False,
    "Consolidation": False,
    "Edema": True,
    "Pleural Effusion": True,
}
COMPETITION = tuple(MAPPED)
VALUES = {"1.0": "1", "1": "1", "0.0": "0", "0": "0", "-1.0": "u", "-1": "u", "": ""}


class Found(NamedTuple):
    """Class ids that are present, and those of which nobody knows."""

    labels: tuple[int, ...]
    unknown: tuple[int, ...] = ()

    @property
    def single(self) -> bool:
        """Exactly one class is present and none is unknown."""
        return len(self.labels) == 1 and not self.unknown


def chosen_findings(
    classes: Literal["competition", "all"] | tuple[str, ...],
    known: tuple[str, ...],
    policy: Policy,
) -> tuple[str, ...]:
    """The names that a setting ``classes`` means; UserError for others than ``known`` ones."""
    if isinstance(classes, str):
        names = known if classes == "all" else COMPETITION
    else:
        names = tuple(dict.fromkeys(classes))
    refuse_unknown_classes(names, known)
    unmapped = [name for name in names if name not in MAPPED]
    if policy == "u_map" and unmapped:
        raise UserError(
            f"uncertain='u_map' says nothing about {', '.join(unmapped)}; set "
            "classes='competition' or another policy."
        )
    return names


def finding_classes(names: tuple[str, ...], policy: Policy) -> tuple[str, ...]:
    """Class names: the findings, and with ``u_multi`` those in doubt behind them."""
    return (*names, *(f"{name} (uncertain)" for name in names)) if policy == "u_multi" else names


def findings(
    row: Mapping[str, str], names: tuple[str, ...], policy: Policy, where: str
) -> Found | None:
    """What a row of the labeller's table says, or None if the image is left out (``u_drop``).

    names: columns of ``row``. where: the place, for the UserError about a value no label can have.
    """
    present, unknown = [], []
    for label, name in enumerate(names):
        text = row[name].strip()
        if text not in VALUES:
            raise UserError(f"{where}: {name} is {text!r}; it must be 1.0, 0.0, -1.0 or blank.")
        value = VALUES[text]
        if value == "u" and policy == "u_drop":
            return None
        if value == "u" and policy == "u_ignore":
            unknown.append(label)
        elif value == "u" and policy == "u_multi":
            present.append(label + len(names))
        elif value == "1" or (value == "u" and _counts_as_present(name, policy)):
            present.append(label)
    return Found(tuple(sorted(present)), tuple(unknown))


def _counts_as_present(name: str, policy: Policy) -> bool:
    return policy == "u_ones" or (policy == "u_map" and MAPPED[name])


def with_validation(
    recordings: Collection[Recording], fraction: float, seed: int
) -> tuple[Recording, ...]:
    """The same recordings; those of a share of the training groups get the validation split.

    Groups are ordered by SHA-256 of seed and name, so the choice depends on no random generator.
    """
    groups = sorted(
        {r.group for r in recordings if r.split == "train"},
        key=lambda group: hashlib.sha256(repr((seed, group)).encode()).digest(),
    )
    chosen = set(groups[: round(fraction * len(groups))])
    return tuple(
        replace(r, split="validation") if r.split == "train" and r.group in chosen else r
        for r in recordings
    )


def validation_rule(fraction: float, seed: int) -> str:
    """The end of a split rule in words."""
    if not fraction:
        return ""
    return f"; validation: {fraction:g} of the training patients, seed {seed} (Medley's rule)"


def refuse_unknown_classes(names: Collection[str], known: Collection[str]) -> None:
    """UserError for an empty list or a name that is not in ``known``."""
    if not names:
        raise UserError("classes is empty; name some, or leave it out.")
    for name in names:
        if name not in known:
            raise UserError(f"classes: {name!r} is unknown{did_you_mean(name, list(known))}")


def missing_images(missing: list[Path]) -> UserError:
    """The error for images that a table names but that are not there."""
    return UserError(
        f"{missing[0]}: listed but there is no such file ({len(missing)} missing in all); unpack "
        "the archives again, or set allow_missing=true to use the rest."
    )
