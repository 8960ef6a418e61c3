"""A user's own recordings, one folder a class; and how readers look into a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.extensions import extensions_of
from multimodal.datasets.patterns import compiled, group_in
from multimodal.datasets.splits import SEEDED, class_order, shared_as_told, split_for_streams
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
LITTER = "__MACOSX"  # what the archives of one system leave beside the files
# What people write beside their recordings; in no class, these are nobody's recordings.
SIDE_FILES = frozenset(
    {".md", ".txt", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".xml"}
    | {".html", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".py", ".sh", ".ini", ".log", ".zip"}
    | {".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".md5", ".sha256", ".db", ".cff", ""}
)
EXPECTED = "folders CLASS/ with recordings, or train/CLASS/ and test/CLASS/"


def entries(folder: Path, expected: str) -> list[Path]:
    """What ``folder`` holds, sorted by name, hidden files and ``LITTER`` left out.

    expected: in words, what should be there; UserError says so if ``folder`` is not a folder.
    """
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {state}; expected a folder with {expected}.")
    found = (e for e in folder.iterdir() if not e.name.startswith(".") and e.name != LITTER)
    return sorted(found)


def wrong_folder(folder: Path, expected: str) -> UserError:
    """The error of a reader that was pointed at a folder of something else."""
    names = [e.name + "/" * e.is_dir() for e in entries(folder, expected)]
    found = ", ".join(names[:5]) + (f" ... ({len(names)} entries)" if len(names) > 5 else "")
    return UserError(f"{folder}: expected {expected}; found {found or 'nothing'}.")


@DATASETS.register("folder")
class FolderConfig(DatasetConfig):
    """``root/CLASS/*.wav`` with a seeded random test split, or splits that the folders name.

    If ``root`` has both ``train`` and ``test`` (and perhaps ``validation``), each holds one folder
    a class; their names may be written as in ``SPLIT_FOLDERS``, in any case. Otherwise every class
    gives ``test_fraction`` of its recordings to the test split (see ``seeded_split``).

    extensions: those of the modality, unless they are given; files with others are left out, and
    so are files that lie in no class (``SIDE_FILES`` are not counted); ``medley datasets check``
    tells how many.
    group_pattern: a regular expression with one group, searched for in a file's name without
    extension; what the group matches is the speaker, patient or source, and no such group stands
    on both sides of a split.
    """

    modalities: ClassVar[tuple[str, ...]] = ("speech", "audio", "ecg", "xray", "video")
    summary: ClassVar[str] = "your own recordings, one folder a class"
    licence: ClassVar[str] = "that of your data"
    how_to_get: ClassVar[str] = "Set root to the folder that holds one folder a class."

    modality: str = "speech"
    extensions: tuple[str, ...] = Field(default_factory=lambda f: extensions_of(f["modality"]))
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0
    group_pattern: str | None = None

    def build(self, root: Path) -> Manifest:
        """UserError for an empty class, a subfolder in a class, and a class of one recording."""
        manifest = self.build_for_stream(root)
        if manifest.undrawn or manifest.shared:
            raise UserError(manifest.undrawn or manifest.shared)
        return manifest

    def build_for_stream(self, root: Path) -> Manifest:
        pattern = compiled("group_pattern", self.group_pattern)
        left_out = Counter[str]()
        folders = _folders(root, EXPECTED, left_out)
        if not folders:
            raise wrong_folder(root, EXPECTED)
        if {"train", "test"} <= {SPLIT_FOLDERS.get(f.name.lower()) for f in folders}:
            files = self._named_splits(root, folders, left_out)
            rule = "named by folders"
        else:
            _refuse_a_lone_split(root, folders)
            files = [(path, c.name, "") for c in folders for path in self._recordings(c, left_out)]
            groups = "whole groups, " if pattern else ""
            rule = f"{SEEDED}{groups}test_fraction {self.test_fraction:g}, seed {self.seed}"
        uids = [path.relative_to(root).as_posix() for path, _, _ in files]
        labels = [label for _, label, _ in files]
        groups = [group_in(pattern, path.stem, path) if pattern else "" for path, _, _ in files]
        splits = [split for _, _, split in files]
        undrawn = ""
        if not all(splits):
            splits, undrawn = split_for_streams(
                uids,
                labels,
                groups=groups if pattern else None,
                test_fraction=self.test_fraction,
                seed=self.seed,
            )
        names = class_order(labels)
        ids = {name: i for i, name in enumerate(names)}
        rows = zip(uids, labels, groups, splits, files, strict=True)
        return shared_as_told(
            name="folder",
            modality=self.modality,
            class_names=tuple(names),
            recordings=tuple(
                Recording(uid=uid, labels=(ids[label],), split=split, path=file[0], group=group)
                for uid, label, group, split, file in rows
            ),
            version="unversioned",
            split_rule=rule,
            root=root,
            left_out=dict(left_out),
            undrawn=undrawn,
        )

    def _named_splits(
        self, root: Path, folders: list[Path], left_out: Counter[str]
    ) -> list[tuple[Path, str, str]]:
        files = []
        for folder in folders:
            if folder.name.lower() not in SPLIT_FOLDERS:
                raise UserError(
                    f"{root} has folders for train and test, so {folder.name}/ beside them belongs "
                    f"to no split; valid names: {', '.join(sorted(SPLIT_FOLDERS))}."
                )
            classes = _folders(folder, "folders CLASS/", left_out)
            if not classes:
                raise wrong_folder(folder, "folders CLASS/ with recordings")
            split = SPLIT_FOLDERS[folder.name.lower()]
            for c in classes:
                files += [(path, c.name, split) for path in self._recordings(c, left_out)]
        return files

    def _recordings(self, folder: Path, left_out: Counter[str]) -> list[Path]:
        wanted = {"." + extension.lstrip(".").lower() for extension in self.extensions}
        found = entries(folder, "recordings")
        for entry in found:
            if entry.is_dir():
                raise UserError(
                    f"{entry} is a folder inside the class folder {folder.name!r}; "
                    f"expected {EXPECTED}."
                )
        recordings = [entry for entry in found if entry.suffix.lower() in wanted]
        if not recordings:
            raise UserError(
                f"class folder {folder} has no recordings ({', '.join(sorted(wanted))}); "
                "add some, remove the folder, or set extensions."
            )
        taken = set(recordings)
        left_out.update(entry.suffix.lower() for entry in found if entry not in taken)
        return recordings


def _folders(folder: Path, expected: str, left_out: Counter[str]) -> list[Path]:
    """The folders in ``folder``; files beside them, ``SIDE_FILES`` excepted, are left out."""
    found = entries(folder, expected)
    folders = [entry for entry in found if entry.is_dir()]
    endings = (entry.suffix.lower() for entry in found if entry not in folders)
    left_out.update(ending for ending in endings if ending not in SIDE_FILES)
    return folders


def _refuse_a_lone_split(root: Path, folders: list[Path]) -> None:
    """UserError for train/CLASS/ without test/CLASS/, or the other way round."""
    for folder in folders:
        name = folder.name.lower()
        if name in SPLIT_FOLDERS and any(e.is_dir() for e in entries(folder, "recordings")):
            kinds = {SPLIT_FOLDERS.get(f.name.lower()) for f in folders}
            missing = "train" if "train" not in kinds else "test"
            raise UserError(
                f"{root} has {folder.name}/ with folders in it, but no folder {missing!r} beside "
                f"it; expected {EXPECTED}."
            )
