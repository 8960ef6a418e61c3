"""DICOM files -> grey values in [0, 1]: decoding, and the grey transformations of PS3.3 C.11.

Written here from the standard: pydicom's window turns the image around where the slope is negative,
and stops at elements that are there but empty.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.errors import UserError
from multimodal.modalities.budget import most_bytes, words
from multimodal.modalities.dicom_frame import codestream_size, decoded
from multimodal.modalities.pictures import not_installed, refuse_huge

# Values, and bytes, that are worked on at once.
STRIP = 2**22
META = 144  # bytes before what the header's own length counts
INFLATED = 2  # copies of inflated bytes

if TYPE_CHECKING:
    from pydicom import Dataset


def read_dicom(path: Path, where: str) -> np.ndarray:
    """(H, W) float32 in [0, 1].

    Modality LUT, or slope and intercept; then VOI LUT, or the first window that has a width, over
    the window; without either, over the range which the stored bits can take. MONOCHROME1 is
    inverted. What is there but empty counts as absent. UserError: damaged, in colour, several
    frames, no pixels, no decoder.
    """
    try:
        import pydicom
    except ImportError as error:
        raise not_installed(where, "pydicom") from error
    # The decoders answer damage with exceptions of many kinds, AttributeError among them, and
    # repair some of it with no more than a warning.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _refuse_inflated(path, where)
            data = pydicom.dcmread(path)
            _refuse_other_dicom(data, where)
            _complete(data, where)
            stored = decoded(data, where)
            if stored.ndim != 2:
                raise ValueError(f"pixels have {stored.ndim} axes")
            image = _in_strips(stored, data, where)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{where}: damaged, truncated or undecodable DICOM ({reason}); copy it again, or "
            "convert it to uncompressed DICOM or PNG."
        ) from error
    return 1 - image if data.PhotometricInterpretation == "MONOCHROME1" else image


def _in_strips(stored: np.ndarray, data: Dataset, where: str) -> np.ndarray:
    """``shown`` of a few rows at a time, within [0, 1], float32."""
    image = np.empty(stored.shape, np.float32)
    step = max(1, STRIP // max(1, stored.shape[1]))
    for top in range(0, len(stored), step):
        rows = slice(top, top + step)
        image[rows] = np.clip(shown(stored[rows], data, where), 0, 1)
    return image


def _refuse_inflated(path: Path, where: str) -> None:
    """UserError if a deflated file becomes too large; pydicom inflates all of it at once."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        meta = read_file_meta_info(path)
    except Exception:  # what is wrong is told when the whole file is read
        return
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    length = meta.get("FileMetaInformationGroupLength")
    if length is None:
        raise ValueError("deflated, and the header does not say where")
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(META + int(length))
        # What stands behind the stream, such as the byte that makes its length even (PS3.5, A.5),
        # is never consumed.
        while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(STRIP)):
            size += len(inflater.decompress(chunk, STRIP))
            if INFLATED * size > most_bytes():
                raise UserError(
                    f"{where}: {path.stat().st_size:,} deflated bytes become more than an image "
                    f"may take of {words()}; raise the limit, or convert the file to uncompressed "
                    "DICOM or PNG."
                )


def shown(stored: np.ndarray, data: Dataset, where: str) -> np.ndarray:
    """Stored values -> float64, 0 = darkest and 1 = brightest of what is to be shown.

    A table's smallest and largest output for any stored value become 0 and 1. PS3.3, C.11.2, lets
    its outputs fill the range of the bits that its descriptor declares, which many files overstate
    (16 bits for values of 12): their images would be nearly black, and the same image would differ
    by its writer. A table that keeps clear of the ends of its range on purpose loses that margin.
    """
    voi = _table(data, "VOILUTSequence", where)
    window = None if voi else _window(data, where)
    if window is not None:
        return windowed(_modality(stored, data, where), *window)

    def displayed(values: np.ndarray) -> np.ndarray:
        values = _modality(values, data, where)
        return _looked_up(values, *voi) if voi else values

    reached = displayed(_all_stored(data))
    low, high = float(reached.min()), float(reached.max())
    if not low < high:
        raise UserError(
            f"{where}: its RescaleSlope or LUT gives every pixel the same value; correct it."
        )
    return (displayed(stored) - low) / (high - low)


def windowed(values: np.ndarray, function: str, centre: float, width: float) -> np.ndarray:
    """PS3.3, C.11.2.1.2.1 (LINEAR) and C.11.2.1.3 (SIGMOID, LINEAR_EXACT), for outputs 0 to 1."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _modality(values: np.ndarray, data: Dataset, where: str) -> np.ndarray:
    table = _table(data, "ModalityLUTSequence", where)
    if table:
        return _looked_up(values, *table)
    slope = next(iter(_numbers(data, "RescaleSlope", where)), None)
    intercept = next(iter(_numbers(data, "RescaleIntercept", where)), None)
    if slope == 0:
        raise UserError(f"{where}: RescaleSlope 0 gives every pixel the same value; correct it.")
    slope = 1.0 if slope is None else slope
    return values.astype(np.float64) * slope + (intercept or 0.0)


def _window(data: Dataset, where: str) -> tuple[str, float, float] | None:
    """(function, centre, width) of the first window that can be used, or None."""
    function = str(data.get("VOILUTFunction") or "LINEAR").strip().upper()
    smallest = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    centres = _numbers(data, "WindowCenter", where)
    widths = _numbers(data, "WindowWidth", where)
    for centre, width in zip(centres, widths, strict=False):
        if centre is None or width is None or width < smallest:
            continue
        if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise UserError(
                f"{where}: VOILUTFunction {function[:40]!r} is none of LINEAR, LINEAR_EXACT and "
                "SIGMOID; correct it."
            )
        return function, centre, width
    return None


def _numbers(data: Dataset, name: str, where: str) -> list[float | None]:
    """The numbers of an element, None for those that are empty; [] where it is missing."""
    value: Any = data.get(name)
    values = [value] if value is None or isinstance(value, str | float | int) else list(value)
    numbers = [None if v is None or v == "" else float(v) for v in values]
    for number in numbers:
        if number is not None and not np.isfinite(number):
            raise UserError(f"{where}: {name} is {number}; correct it.")
    return numbers


def _table(data: Dataset, name: str, where: str) -> tuple[int, np.ndarray] | None:
    """(first value, float64 table) of the first item of a LUT sequence, or None."""
    items: Any = data.get(name)
    if not items or not items[0].get("LUTDescriptor") or not items[0].get("LUTData"):
        return None
    count, first, bits = (int(v) for v in items[0].LUTDescriptor)
    count, entries = count or 2**16, items[0].LUTData
    if isinstance(entries, bytes):
        packed = bits <= 8 and len(entries) < 2 * count
        order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(entries, "u1" if packed else f"{order}u2")
    table = np.atleast_1d(np.asarray(entries, dtype=np.float64))[:count]
    if not 1 <= bits <= 16 or len(table) < count:
        raise UserError(
            f"{where}: {name} announces {count} values of {bits} bits and has {len(table)}; "
            "correct or remove it."
        )
    return first, table


def _looked_up(values: np.ndarray, first: int, table: np.ndarray) -> np.ndarray:
    """Values before the table's first and after its last get those."""
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]


def _all_stored(data: Dataset) -> np.ndarray:
    """Every value that the stored bits can take; of more than 16 bits the two ends."""
    bits = int(data.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if data.PixelRepresentation else (0, None)
    high = 2**bits - 1 if high is None else high
    return np.arange(low, high + 1) if bits <= 16 else np.array([low, high])


def _complete(data: Dataset, where: str) -> None:
    """What some writers leave out of a grey image: that it has one sample a pixel, and no sign.

    UserError where a sign is possible: of more than 8 bits, unless uncompressed pixels leave the
    bits above those stored clear, which negative values would set.
    """
    if data.get("SamplesPerPixel") is None:
        data.SamplesPerPixel = 1
    if data.get("PixelRepresentation") is not None:
        return
    stored, allocated = int(data.BitsStored), int(data.BitsAllocated)
    syntax = data.file_meta.TransferSyntaxUID
    clear = False
    if allocated == 16 and stored < 16 and not syntax.is_compressed:
        order = "<" if syntax.is_little_endian else ">"
        count = int(data.Rows) * int(data.Columns)
        values = np.frombuffer(data.PixelData[: 2 * count], f"{order}u2")
        clear = int(values.max(initial=0)) < 2**stored
    if allocated != 8 and not clear:
        raise UserError(
            f"{where}: PixelRepresentation is missing, and pixels of {stored} of {allocated} bits "
            "may have a sign; write it into the file."
        )
    data.PixelRepresentation = 0


def _refuse_other_dicom(data: Dataset, where: str) -> None:
    if "PixelData" not in data:
        raise UserError(
            f"{where}: this DICOM file has no pixel data (a report or a header only); remove it."
        )
    kind = str(data.get("PhotometricInterpretation", "missing"))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        kind = kind if kind.isprintable() else repr(kind)
        raise UserError(
            f"{where}: PhotometricInterpretation {kind} is not a grey image; convert it to PNG."
        )
    frames = int(data.get("NumberOfFrames") or 1)
    if frames != 1:
        raise UserError(f"{where}: {frames} frames in one file; an X-ray has one. Split the file.")
    refuse_huge(int(data.Columns), int(data.Rows), where)
    bits, high = int(data.BitsStored), int(data.get("HighBit") or int(data.BitsStored) - 1)
    if not 1 <= bits <= int(data.BitsAllocated) or high != bits - 1:
        raise UserError(
            f"{where}: {bits} of {data.BitsAllocated} bits with the highest at {high}; only files "
            "whose bits begin at 0 are read. Convert it."
        )
    if data.file_meta.TransferSyntaxUID.is_compressed:
        size = codestream_size(data)
        if size and size != (int(data.Columns), int(data.Rows)):
            raise UserError(
                f"{where}: damaged, its header announces {data.Columns} x {data.Rows} pixels and "
                f"its compressed image {size[0]} x {size[1]}; copy it again."
            )
        return
    announced = -(-int(data.Rows) * int(data.Columns) * int(data.BitsAllocated) // 8)
    if any(data.PixelData[announced:]):  # zeros fill up
        raise UserError(
            f"{where}: {len(data.PixelData)} bytes of pixels, its header announces {announced}; "
            "damaged, copy it again."
        )
