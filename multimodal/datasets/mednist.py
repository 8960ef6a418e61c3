"""MedNIST: 64 x 64 grey images of six kinds (assembled by B. Erickson, Mayo Clinic)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.datasets.splits import seeded_split
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
EXPECTED = f"one folder a class ({', '.join(CLASSES)}) with .jpeg files"
# Of the release with 58,954 images; other copies are subsets of it.
COMPLETE = dict.fromkeys(CLASSES, 10_000) | {"BreastMRI": 8_954}


@DATASETS.register("mednist")
class MednistConfig(DatasetConfig):
    """``{Class}/*.jpeg``. There is no official split: a seeded one, stratified by class.

    The files name no patient, so slices of one examination may stand on both sides; figures on
    this set say that a pipeline works, not how well it would do on new patients.
    """

    folder: ClassVar[str] = "mednist"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "MedNIST: 6 kinds of radiology image, 64 x 64, grey"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    how_to_get: ClassVar[str] = (
        "Unpack MedNIST.tar.gz, a release of "
        "https://github.com/Project-MONAI/MONAI-extra-test-data, and rename its folder to mednist."
    )
    # Checksum as MONAI, whose release it is, states it.
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
            "MedNIST.tar.gz",
            checksum="md5:0bc7306e7427e00ad1c5526a6677552d",
        ),
    )

    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0

    def build(self, root: Path) -> Manifest:
        """UserError for missing, empty or foreign class folders and for files of other kinds."""
        found = [e.name for e in entries(root, EXPECTED) if e.is_dir()]
        if not set(found) & set(CLASSES):
            raise wrong_folder(root, EXPECTED)
        for words, names in (
            ("no folder of", set(CLASSES) - set(found)),
            ("folders that are no class of mednist:", set(found) - set(CLASSES)),
        ):
            if names:
                raise UserError(f"{root}: {words} {', '.join(sorted(names))}; expected {EXPECTED}.")
        files = [
            (path, label) for label, name in enumerate(CLASSES) for path in _images(root / name)
        ]
        uids = [path.relative_to(root).as_posix() for path, _ in files]
        splits = seeded_split(
            uids,
            [CLASSES[label] for _, label in files],
            test_fraction=self.test_fraction,
            seed=self.seed,
        )
        return Manifest(
            name="mednist",
            modality="xray",
            class_names=CLASSES,
            recordings=tuple(
                Recording(uid=uid, labels=(label,), split=split, path=path)
                for uid, (path, label), split in zip(uids, files, splits, strict=True)
            ),
            version=self._version(len(files)),
            licence=self.licence,
            citation="MedNIST, B. J. Erickson, Mayo Clinic; images from TCIA, the RSNA Bone Age "
            "Challenge and NIH ChestX-ray",
            split_rule=f"seeded: test_fraction {self.test_fraction:g}, seed {self.seed}; "
            "patients are unknown",
            root=root,
        )

    def expected_counts(self) -> None:
        """None: there is no official split, and subsets are common."""

    def _version(self, images: int) -> str:
        kind = "complete" if images == sum(COMPLETE.values()) else "subset"
        return f"{kind}: {images} images"


def _images(folder: Path) -> list[Path]:
    files = entries(folder, ".jpeg files")
    for path in files:
        if path.suffix.lower() not in (".jpeg", ".jpg"):
            raise UserError(f"{path}: not an image of mednist (.jpeg); move other files away.")
    if not files:
        raise UserError(f"{folder} has no .jpeg files; unpack the archive again.")
    return files
