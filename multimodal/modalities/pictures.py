"""Picture files (JPEG, PNG, BMP, TIFF, WebP) -> grey values in [0, 1], the right way up."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.errors import UserError, how_to_install
from multimodal.modalities.budget import most_bytes, words

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Other formats of Pillow start programs (EPS) or measure nothing (GIF).
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
LARGEST_PIXELS = 80_000_000  # 8,900 x 8,900; what Pillow opens without a warning
MOST_SCANS = 200  # of a progressive JPEG; each costs as much as the whole picture
SCAN = b"\xff\xda"
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
FLOAT = 4  # bytes
ORIENTATION, PHOTOMETRIC, BITS = 0x0112, 262, 258  # tags of Exif and TIFF
# From what is stored to what is meant, by the orientation of Exif; 1 is upright.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}


def read_picture(path: Path, where: str) -> np.ndarray:
    """(H, W) float32 in [0, 1], turned as the file's orientation says.

    8 bit values are divided by 255, 16 bit ones by 65,535 (TIFF of 10 to 15 bits: by their largest
    one). Colour becomes luminance (ITU-R 601-2), transparency is dropped. UserError: damaged, not
    one of ``FORMATS``, several pictures, more than ``LARGEST_PIXELS``, values of unknown range.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise not_installed(where, "Pillow") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow: about sizes and about metadata
            # From a path Pillow maps uncompressed TIFF into memory, and garbles what is turned.
            refuse_huge(*_webp_size(path), where)  # Pillow makes room before it tells the size
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
                refuse_huge(*picture.size, where)
                _refuse_other_pictures(picture, where)
                if picture.format == "TIFF":
                    _refuse_short_tiff(picture, path.stat().st_size)
                if picture.format == "JPEG" and path.read_bytes().count(SCAN) > MOST_SCANS:
                    raise ValueError(f"more than {MOST_SCANS} scans of one picture")
                return _upright(picture, _grey(picture))
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        raise UserError(
            f"{where}: damaged or no image that can be read; use {', '.join(FORMATS)} or DICOM."
        ) from error
    # Pillow answers damage with nearly anything: broken chunks of PNG with SyntaxError, tags of
    # TIFF with TypeError, KeyError, struct.error.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{where}: damaged or truncated image ({reason}); copy it again."
        ) from error


def refuse_huge(width: int, height: int, where: str) -> None:
    """Before anything of that size is made: a damaged header may announce any size."""
    if width * height > LARGEST_PIXELS:
        raise UserError(
            f"{where}: {width} x {height} pixels; at most {LARGEST_PIXELS:,} are read. Copy the "
            "file again if it is damaged, else reduce the image."
        )
    if FLOAT * width * height > most_bytes():
        raise UserError(
            f"{where}: {width} x {height} pixels do not fit in {words()}; raise the limit, or "
            "reduce the image."
        )


def _webp_size(path: Path) -> tuple[int, int]:
    """Width and height of an extended WebP file's canvas; (0, 0) of every other file."""
    with path.open("rb") as file:
        head = file.read(30)
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or len(head) < 30:
        return 0, 0
    return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")


def not_installed(where: str, name: str) -> UserError:
    return UserError(
        f"{where}: reading it needs {name}, which is not there; {how_to_install('medical')}."
    )


def _refuse_other_pictures(picture: Picture, where: str) -> None:
    # JPEG files of telephones carry previews beside the one picture, so they may hold several.
    if picture.format in ("PNG", "TIFF", "WEBP") and _has_several(picture):
        raise UserError(f"{where}: several pictures in one file; save each by itself.")
    if picture.mode not in MODES and not _is_wide(picture):
        raise UserError(
            f"{where}: values of Pillow's mode {picture.mode}, whose range the file does not say; "
            "save it with 8 or 16 bits a pixel, grey or RGB."
        )


def _has_several(picture: Picture) -> bool:
    if picture.format != "TIFF":
        return getattr(picture, "n_frames", 1) != 1
    try:  # to count them is to read the directory of each
        picture.seek(1)
    except EOFError:
        return False
    return True


def _refuse_short_tiff(picture: Picture, size: int) -> None:
    """ValueError where strips or tiles are missing: Pillow leaves black what it does not find."""
    tags: Any = getattr(picture, "tag_v2", {})
    offsets, counts = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
    width, height = int(tags[256]), int(tags[257])
    if not offsets or not counts:
        raise ValueError("no strips or tiles")
    if 324 in tags:
        if int(tags[322]) * int(tags[323]) > LARGEST_PIXELS:
            raise ValueError(f"tiles of {tags[322]} x {tags[323]} pixels")
        pieces = -(-width // int(tags[322])) * -(-height // int(tags[323]))
    else:
        pieces = -(-height // min(height, int(tags.get(278) or height)))
    layers = int(tags.get(277, 1)) if tags.get(284) == 2 else 1
    if len(offsets) != pieces * layers or len(counts) != len(offsets):
        raise ValueError(f"{len(offsets)} of {pieces * layers} strips or tiles")
    if any(place + count > size for place, count in zip(offsets, counts, strict=True)):
        raise ValueError("strips or tiles behind the end of the file")
    bits = sum(tags.get(BITS, (1,))) if layers == 1 else int(tags[BITS][0]) * layers
    if tags.get(259, 1) == 1 and sum(counts) < width * height * bits // 8:
        raise ValueError(f"{sum(counts)} bytes of {width} x {height} pixels of {bits} bits")


def _is_wide(picture: Picture) -> bool:
    """16 bits without sign; TIFF's "I" is of 32 bits or with a sign."""
    wide = picture.mode.startswith("I;16") or picture.mode == "I"
    return wide and not (picture.mode == "I" and picture.format == "TIFF")


def _grey(picture: Picture) -> np.ndarray:
    if not _is_wide(picture):
        return np.asarray(picture.convert("L")).astype(np.float32) / 255
    tags: Any = getattr(picture, "tag_v2", {})
    bits = int(tags.get(BITS, (16,))[0])
    white_is_zero = tags.get(PHOTOMETRIC) == 0
    # convert("L") would cut 16 bit values off at 255.
    values = np.asarray(picture).astype(np.float32) / (2**bits - 1)
    return 1 - values if white_is_zero else values


def _upright(picture: Picture, pixels: np.ndarray) -> np.ndarray:
    """Pillow itself turns TIFF, and then forgets the orientation."""
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # viewers show a picture whose metadata are broken as it is stored
        return pixels
    return np.ascontiguousarray(turn(pixels)) if turn else pixels
