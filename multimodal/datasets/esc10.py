"""ESC-10, the stand-alone Ogg release (Piczak, ACM Multimedia 2015, CC BY 3.0)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from multimodal.datasets import DATASETS
from multimodal.datasets.esc50 import CITATION, ESC10, FOLDS, FoldConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

FOLDERS = (
    "001 - Dog bark",
    "002 - Rain",
    "003 - Sea waves",
    "004 - Baby cry",
    "005 - Clock tick",
    "006 - Person sneeze",
    "007 - Helicopter",
    "008 - Chainsaw",
    "009 - Rooster",
    "010 - Fire crackling",
)
NAME = re.compile(r"([1-5])-([0-9]+)-([A-Z])\.ogg")
EXPECTED = 'ten folders "001 - Dog bark" to "010 - Fire crackling"'
PER_CLASS_AND_FOLD = 8


@DATASETS.register("esc10")
class Esc10Config(FoldConfig):
    """``NNN - Class name/{fold}-{clip id}-{take}.ogg``; class names are those of ESC-50.

    Class id = folder number - 1. Group = clip id, the source recording; no clip of this release
    stands in two folds. Clips last 3.64 to 7.24 s, although the release says 5: set the
    modality's ``seconds`` to 5.
    """

    folder: ClassVar[str] = "esc10"
    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    summary: ClassVar[str] = "ESC-10: 10 environmental sounds, 5 folds of 80 clips, 44.1 kHz"
    licence: ClassVar[str] = "CC BY 3.0 (single clips CC0 or CC BY)"
    how_to_get: ClassVar[str] = (
        "Unpack the archive of https://github.com/karolpiczak/ESC-10 into the folder esc10; its "
        "clips are also those of dataset esc50 with subset=esc10."
    )
    # The commit fixes the content. GitHub makes archives on request and publishes no checksum.
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://github.com/karolpiczak/ESC-10/archive/"
            "553c8f1743b9dba6b282e1323c3ca8fa76923448.zip"
        ),
    )

    def build(self, root: Path) -> Manifest:
        """UserError for a missing class folder and for a file with another name."""
        entries(root, EXPECTED)
        missing = [name for name in FOLDERS if not (root / name).is_dir()]
        if len(missing) == len(FOLDERS):
            raise wrong_folder(root, EXPECTED)
        if missing:
            raise UserError(
                f"{root}: no folder {missing[0]!r} ({len(missing)} of {len(FOLDERS)} missing); "
                "unpack the archive again."
            )
        return Manifest(
            name="esc10",
            modality="audio",
            class_names=ESC10,
            recordings=tuple(
                self._recording(root, path, label)
                for label, name in enumerate(FOLDERS)
                for path in entries(root / name, "recordings")
            ),
            version="stand-alone Ogg release",
            licence=self.licence,
            citation=CITATION,
            split_rule=self.rule(),
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Recordings per split of the full set."""
        return self.counts([PER_CLASS_AND_FOLD * len(ESC10)] * FOLDS)

    def _recording(self, root: Path, path: Path, label: int) -> Recording:
        match = NAME.fullmatch(path.name)
        if match is None:
            raise UserError(
                f"{path}: not a recording of esc10; expected names such as 1-30226-A.ogg "
                "({fold}-{clip id}-{take}.ogg); move other files away."
            )
        return Recording(
            uid=path.relative_to(root).as_posix(),
            labels=(label,),
            split=self.split_of(int(match[1])),
            path=path,
            group=match[2],
        )
