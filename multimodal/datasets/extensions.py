"""Which files of a folder are recordings of a modality, by the ends of their names."""

from __future__ import annotations

AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".opus")
VIDEO = (".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")
EXTENSIONS = {
    "speech": AUDIO,
    "audio": AUDIO,
    "ecg": (".hea",),
    "xray": (".png", ".jpg", ".jpeg", ".dcm", ".dicom"),
    "video": VIDEO,
}
# Left out of a folder, these are worth a warning: they are likely recordings.
SIGNALS = frozenset(e for extensions in EXTENSIONS.values() for e in extensions) | {
    *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".m4a", ".m4b", ".oga", ".wave", ".wma"),
    *(".bmp", ".gif", ".tif", ".tiff", ".webp", ".edf", ".ogv", ".ts", ".mts", ".m2ts"),
}


def extensions_of(modality: str) -> tuple[str, ...]:
    """Those of sound for a modality that a plug-in brings."""
    return EXTENSIONS.get(modality, AUDIO)
