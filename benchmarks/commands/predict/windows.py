"""Long files, cut into windows."""

from __future__ import annotations

from benchmarks.commands.predict.inputs import Part, recording_of
from benchmarks.commands.predict.opened import Opened
from multimodal.errors import UserError
from multimodal.modalities import Adapter


class Cutter:
    """A part of a file -> its windows; itself without ``window``."""

    def __init__(self, opened: Opened, window: float | None, hop: float | None) -> None:
        self.window, self.hop = window, hop or window
        for name, value in (("window", window), ("hop", hop)):
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{name}={value}: give seconds above 0.")
        if window is None:
            if hop is not None:
                raise UserError(f"hop={hop}: is of windows; give a window too.")
            return
        self.rate = getattr(opened.modality, "sample_rate", None)
        if self.rate is None:
            raise UserError(
                f"window={window}: a model of modality {opened.modality.registered_name} reads no "
                "signal that can be cut in time; leave it out (in tables, start and duration say "
                "which part of a file is meant)."
            )
        whole = {
            name: None for name in ("seconds", "max_seconds") if hasattr(opened.modality, name)
        }
        self.adapter: Adapter = opened.modality.model_copy(update=whole).build()  # pyright: ignore

    def __call__(self, part: Part) -> list[Part]:
        if self.window is None:
            return [part]
        assert self.hop is not None
        assert self.rate is not None
        length = self.adapter.load(recording_of(part, 0)).shape[-1] / self.rate
        count = int((length - self.window) / self.hop + 1e-6) + 1 if length > self.window else 0
        if count < 1:
            return [part]
        starts = (part.start + i * self.hop for i in range(count))
        return [part._replace(start=round(at, 6), duration=self.window) for at in starts]
