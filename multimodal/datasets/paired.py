"""Two or more data sets as one of cases: MIMIC's X-rays with its ECGs, or one's own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from multimodal.datasets import DATASETS, CasesConfig, DatasetConfig
from multimodal.datasets.matching import Pairing, pair
from multimodal.datasets.pairing import Cases
from multimodal.errors import UserError
from multimodal.registry import Config


class Member(Config):
    """dataset: of one modality, whose groups are the patients.

    time_column: of its table, where it tells when recordings were made; None: what the data set's
    own layout has for that (mimic_cxr, mimic_iv_ecg).
    """

    dataset: Annotated[Config, DATASETS.choice]
    time_column: str | None = None


@DATASETS.register("paired")
class PairedConfig(CasesConfig):
    """Cases of several data sets by patient and time.

    members: the data sets, the first leads. Each lies in its own folder of the data root (of this
    data set's ``root``, if given), or where its own ``root`` says. pairing: ``how`` is
    all_within_days, nearest or one_per_patient; ``days`` the most between two dates (null: any);
    ``absent`` keeps cases that lack a modality; ``reports`` needed or optional; ``dates`` that
    cannot be read are refused or left out; ``splits`` those of the first modality, or seeded by
    patient; ``prefixes`` say before each report what it is of (see ``matching.Pairing``).
    """

    folder: ClassVar[str] = "."
    modalities: ClassVar[tuple[str, ...]] = ("xray", "ecg", "audio", "speech", "video")
    summary: ClassVar[str] = "cases of several data sets, paired by patient and time"
    licence: ClassVar[str] = "those of its members"
    how_to_get: ClassVar[str] = "Get its members; each has its folder in the data root."

    members: tuple[Member, ...] = Field(min_length=2)
    pairing: Pairing = Pairing()

    @model_validator(mode="after")
    def _members_are_of_one_modality(self) -> Self:
        for member in self.members:
            if isinstance(member.dataset, CasesConfig):
                raise ValueError(
                    f"members: {member.dataset.registered_name} has several modalities itself"
                )
        return self

    @property
    def sought(self) -> tuple[str, ...]:
        if self.root is not None:
            return ()
        found = []
        for member in self.members:
            dataset = member.dataset
            assert isinstance(dataset, DatasetConfig)
            found += dataset.sought if dataset.folder else []
            if not dataset.folder and not dataset.synthetic and dataset.root is None:
                found.append(f"the files of member {dataset.registered_name!r}")
        return tuple(found)

    def build_cases(self, root: Path) -> Cases:
        """UserError: as the members' readers, and as ``pair``; two members of one modality."""
        manifests, moments = {}, {}
        for member in self.members:
            dataset = member.dataset
            assert isinstance(dataset, DatasetConfig)
            place = Path(dataset.root).expanduser() if dataset.root else root / dataset.folder
            manifest = dataset.build(place)
            if manifest.modality in manifests:
                raise UserError(
                    f"members: {manifests[manifest.modality].name!r} and {manifest.name!r} are "
                    f"both of modality {manifest.modality!r}; name one of each."
                )
            manifests[manifest.modality] = manifest
            if self.pairing.timed:
                moments[manifest.modality] = dataset.moments(place, member.time_column)
        names = "+".join(manifest.name for manifest in manifests.values())
        return pair(manifests, moments, self.pairing, name=f"paired {names}")
