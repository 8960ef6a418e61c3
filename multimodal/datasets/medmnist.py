"""MedMNIST v2 and MedMNIST+: twelve sets of small medical images in one npz file each.

Yang et al., MedMNIST v2, Scientific Data 10:41, 2023. Only the 2D sets.
"""

from __future__ import annotations

import hashlib
import tokenize
import zipfile
import zlib
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy

from multimodal.datasets import DATASETS, DatasetConfig
from multimodal.datasets.folder import entries, wrong_folder
from multimodal.downloads import Download
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

Subset = Literal[
    "pathmnist",
    "chestmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "breastmnist",
    "bloodmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
]
SPLITS = {"train": "train", "val": "validation", "test": "test"}
ZENODO = "https://zenodo.org/records/10519652/files"
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as for files of colour images


class Facts(NamedTuple):
    """Of version 3.0.2 of the authors' package; md5: of the 28 pixel file, counts: of SPLITS."""

    classes: str
    counts: tuple[int, int, int]
    md5: str
    colour: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.classes.split("; "))


ORGANS = (
    "bladder; femur-left; femur-right; heart; kidney-left; kidney-right; liver; lung-left; "
    "lung-right; pancreas; spleen"
)
SUBSETS = {
    "pathmnist": Facts(
        "adipose; background; debris; lymphocytes; mucus; smooth muscle; normal colon mucosa; "
        "cancer-associated stroma; colorectal adenocarcinoma epithelium",
        (89_996, 10_004, 7_180),
        "a8b06965200029087d5bd730944a56c1",
        colour=True,
    ),
    "chestmnist": Facts(
        "atelectasis; cardiomegaly; effusion; infiltration; mass; nodule; pneumonia; "
        "pneumothorax; consolidation; edema; emphysema; fibrosis; pleural; hernia",
        (78_468, 11_219, 22_433),
        "02c8a6516a18b556561a56cbdd36c4a8",
    ),
    "dermamnist": Facts(
        "actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; "
        "benign keratosis-like lesions; dermatofibroma; melanoma; melanocytic nevi; "
        "vascular lesions",
        (7_007, 1_003, 2_005),
        "0744692d530f8e62ec473284d019b0c7",
        colour=True,
    ),
    "octmnist": Facts(
        "choroidal neovascularization; diabetic macular edema; drusen; normal",
        (97_477, 10_832, 1_000),
        "c68d92d5b585d8d81f7112f81e2d0842",
    ),
    "pneumoniamnist": Facts(
        "normal; pneumonia", (4_708, 524, 624), "28209eda62fecd6e6a2d98b1501bb15f"
    ),
    "retinamnist": Facts(
        "grade 0; grade 1; grade 2; grade 3; grade 4",
        (1_080, 120, 400),
        "bd4c0672f1bba3e3a89f0e4e876791e4",
        colour=True,
    ),
    "breastmnist": Facts(
        "malignant; normal, benign", (546, 78, 156), "750601b1f35ba3300ea97c75c52ff8f6"
    ),
    "bloodmnist": Facts(
        "basophil; eosinophil; erythroblast; immature granulocytes; lymphocyte; monocyte; "
        "neutrophil; platelet",
        (11_959, 1_712, 3_421),
        "7053d0359d879ad8a5505303e11de1dc",
        colour=True,
    ),
    "tissuemnist": Facts(
        "collecting duct, connecting tubule; distal convoluted tubule; "
        "glomerular endothelial cells; interstitial endothelial cells; leukocytes; podocytes; "
        "proximal tubule segments; thick ascending limb",
        (165_466, 23_640, 47_280),
        "ebe78ee8b05294063de985d821c1c34b",
    ),
    "organamnist": Facts(ORGANS, (34_561, 6_491, 17_778), "68e3f8846a6bd62f0c9bf841c0d9eacc"),
    "organcmnist": Facts(ORGANS, (12_975, 2_392, 8_216), "b9ceb9546e10131b32923c5bbeaea2b1"),
    "organsmnist": Facts(ORGANS, (13_932, 2_452, 8_827), "9ab87b696fb54e2a387ebe992d6ed5f1"),
}


@DATASETS.register("medmnist")
class MedmnistConfig(DatasetConfig):
    """``{subset}.npz`` (28 pixels) or ``{subset}_64.npz``, ``_128``, ``_224``; official splits.

    Labels of ``chestmnist`` are several or none an image; all others have one. The X-ray adapter
    is of grey images, so the colour sets (path, derma, retina, blood) are turned to grey, their
    luminance: figures on them do not compare with those of models that see colour. Patients are
    not published per image: that no patient stands on both sides rests on the authors' word.

    Copies that were altered circulate, and the organ sets of versions before 3 hold other images.
    The numbers of images must be the official ones, and a 28 pixel file must have the official
    MD5, unless ``allow_altered`` is set; the manifest's version then says so. The arrays are
    packed, so the first image that is asked for unpacks all of its split: up to 14 GB for
    pathmnist at 224 pixels, well below 0.3 GB for any set at 28.
    """

    folder: ClassVar[str] = "medmnist"
    modalities: ClassVar[tuple[str, ...]] = ("xray",)
    summary: ClassVar[str] = "MedMNIST v2: 12 sets of medical images of 28 to 224 pixels"
    licence: ClassVar[str] = "CC BY 4.0; dermamnist CC BY-NC 4.0"
    how_to_get: ClassVar[str] = (
        "Download organamnist.npz (or another subset) from https://zenodo.org/records/10519652 "
        "into the folder medmnist."
    )
    downloads: ClassVar[tuple[Download, ...]] = tuple(
        Download(f"{ZENODO}/{name}.npz", checksum=f"md5:{facts.md5}", unpack=False)
        for name, facts in SUBSETS.items()
    )

    subset: Subset = "organamnist"
    size: Literal[28, 64, 128, 224] = 28
    allow_altered: bool = False

    def build(self, root: Path) -> Manifest:
        """UserError for a missing, damaged or altered file and arrays of another form."""
        name = self.subset if self.size == 28 else f"{self.subset}_{self.size}"
        path = root / f"{name}.npz"
        if path not in entries(root, path.name):
            raise wrong_folder(root, path.name)
        facts = SUBSETS[self.subset]
        labels = {split: self._labels(path, split) for split in SPLITS}
        counts = tuple(map(len, labels.values()))
        md5 = _md5(path)
        official = counts == facts.counts and (self.size != 28 or md5 == facts.md5)
        if not official and not self.allow_altered:
            raise UserError(
                f"{path}: not the official file of version 3 (train, validation, test "
                f"{', '.join(map(str, counts))} images, MD5 {md5}; official: "
                f"{', '.join(map(str, facts.counts))}, {facts.md5} at 28 pixels); download it "
                "again, or set allow_altered=true."
            )
        return Manifest(
            name=f"medmnist-{name}",
            modality="xray",
            class_names=facts.names,
            recordings=tuple(
                Recording(
                    uid=f"{split}/{index:06d}",
                    labels=found,
                    split=SPLITS[split],
                    make=partial(image, path, split, index),
                )
                for split, rows in labels.items()
                for index, found in enumerate(rows)
            ),
            version=f"{'official' if official else 'ALTERED'}, MD5 {md5}",
            licence="CC BY-NC 4.0" if self.subset == "dermamnist" else "CC BY 4.0",
            citation="J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023",
            split_rule="official: the npz file's train, val and test; patients are unknown",
            root=root,
        )

    def expected_counts(self) -> dict[str, int]:
        """Images per split of version 3."""
        return dict(zip(SPLITS.values(), SUBSETS[self.subset].counts, strict=True))

    def _labels(self, path: Path, split: str) -> list[tuple[int, ...]]:
        """The class ids of every image of a split; UserError for arrays of another form."""
        facts = SUBSETS[self.subset]
        shape, kind = _header(path, f"{split}_images")
        labels = _array(path, f"{split}_labels")
        several, classes = self.subset == "chestmnist", len(facts.names)
        if labels.ndim != 2:
            raise UserError(f"{path}: {split}_labels has shape {labels.shape}; expected 2 axes.")
        colours = (3,) if facts.colour else ()
        pixels = (len(labels), self.size, self.size, *colours)
        if shape != pixels or kind != np.uint8:
            raise UserError(
                f"{path}: {split}_images is {kind} {shape}; {self.subset} has uint8 {pixels}."
            )
        top = 1 if several else classes - 1
        if (
            labels.shape != (len(labels), classes if several else 1)
            or labels.dtype.kind not in "iu"
        ):
            raise UserError(
                f"{path}: {split}_labels is {labels.dtype} {labels.shape}; expected integers (N, "
                f"{classes if several else 1})."
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() <= top:
            raise UserError(
                f"{path}: {split}_labels has values from {labels.min()} to {labels.max()}; "
                f"expected 0 to {top}."
            )
        if several:
            return [tuple(np.flatnonzero(row).tolist()) for row in labels]
        return [(int(label),) for label in labels[:, 0]]


def image(path: Path, split: str, index: int) -> np.ndarray:
    """(1, size, size) float32 in [0, 1]; colour becomes luminance."""
    with _LOCK:  # else every thread would unpack the same array
        pixels = _images(path, split)[index]
    grey = pixels @ LUMINANCE if pixels.ndim == 3 else pixels
    return (grey / 255).astype(np.float32)[None]


_LOCK = Lock()
# What damage in a zip, an npy header (which is Python source) or packed data ends in.
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


@lru_cache(maxsize=len(SPLITS))
def _images(path: Path, split: str) -> np.ndarray:
    return _array(path, f"{split}_images")


def _array(path: Path, key: str) -> np.ndarray:
    """UserError for a damaged file, a missing array and pickled objects, which are never loaded."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except UNREADABLE as error:
        raise _unreadable(path, key, error) from error


def _header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array that stays packed."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape, _, kind = read[npy.read_magic(file)](file)
    except UNREADABLE as error:
        raise _unreadable(path, key, error) from error
    return shape, kind


def _unreadable(path: Path, key: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:150]
    return UserError(f"{path}: {key} cannot be read ({reason}); download the file again.")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
