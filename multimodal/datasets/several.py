"""Data sets of several modalities as one table, for streams that bring one after another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.errors import UserError
from multimodal.modalities import SEVERAL
from multimodal.recordings import Manifest, Recording


@DATASETS.register(SEVERAL)
class SeveralConfig(DatasetConfig):
    """parts: data sets of one label a recording, each of a modality of its own.

    Each lies in its own folder of the data root (of this data set's ``root``, if given; what is
    made lies in ``synthetic/``), or where its own ``root`` says. Classes, recordings and groups are
    called after their modality, "speech: zero". Give the modalities in ``modality: {name: several,
    parts: [...]}`` and the towers in ``encoder: {name: several}``.
    """

    folder: ClassVar[str] = "."
    modalities: ClassVar[tuple[str, ...]] = (SEVERAL,)
    summary: ClassVar[str] = "data sets of several modalities in one table"
    licence: ClassVar[str] = "those of its parts"
    how_to_get: ClassVar[str] = "Get its parts; each has its folder in the data root."

    parts: tuple[Annotated[DatasetConfig, DATASETS.choice], ...] = Field(min_length=2)

    @property
    def synthetic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(part.synthetic for part in self.parts)

    @property
    def sought(self) -> tuple[str, ...]:
        if self.root is not None:
            return ()
        return tuple(place for part in self.parts for place in part.sought)

    def build(self, root: Path) -> Manifest:
        """UserError: as the parts' readers; two parts of one modality, several labels."""
        found: dict[str, Manifest] = {}
        for part in self.parts:
            own = "synthetic" if part.synthetic and not self.synthetic else part.folder
            place = Path(part.root).expanduser() if part.root else root / own
            manifest = part.build(place)
            if manifest.modality in found or manifest.modality == SEVERAL:
                raise UserError(
                    f"dataset.parts: {manifest.name!r} is another of modality "
                    f"{manifest.modality!r}; name one of each."
                )
            if manifest.multi_label:
                raise UserError(
                    f"dataset.parts: {manifest.name!r} has several labels a recording; parts have "
                    "one each."
                )
            found[manifest.modality] = manifest
        return _joined(found)


def _joined(parts: dict[str, Manifest]) -> Manifest:
    names: list[str] = []
    recordings: list[Recording] = []
    for modality, manifest in parts.items():
        first = len(names)
        names += [f"{modality}: {name}" for name in manifest.class_names]
        recordings += [_named(recording, modality, first) for recording in manifest]
    wholes = list(parts.values())
    return Manifest(
        name="+".join(whole.name for whole in wholes),
        modality=SEVERAL,
        class_names=tuple(names),
        recordings=recordings,
        version="+".join(whole.version for whole in wholes),
        licence="; ".join(dict.fromkeys(whole.licence for whole in wholes)),
        citation="\n".join(whole.citation for whole in wholes if whole.citation),
        split_rule="; ".join(f"{m}: {whole.split_rule}" for m, whole in parts.items()),
        group_overlap="; ".join(
            f"{m}: {whole.group_overlap}" for m, whole in parts.items() if whole.group_overlap
        ),
        synthetic=all(whole.synthetic for whole in wholes),
        made_rates={m: whole.made_rate for m, whole in parts.items() if whole.made_rate},
        notes=tuple(note for whole in wholes for note in whole.notes),
    )


def _named(recording: Recording, modality: str, first: int) -> Recording:
    group = recording.group and f"{modality}: {recording.group}"
    return replace(
        recording,
        uid=f"{modality}: {recording.uid}",
        labels=tuple(first + label for label in recording.labels),
        group=group,
    )
