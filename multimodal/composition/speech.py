"""Speech: utterances that follow each other after a pause, by one speaker, or two talkers at once.

The composer of sounds with other settings, and levels by the frames that are active, so that long
pauses do not make a speaker loud. Words come from data: "three" gives "three, then seven", "a woman
says yes" and "a man says no" give "a woman says yes while a man says no".
"""

from __future__ import annotations

from typing import ClassVar, Literal

from multimodal.composition import COMPOSERS
from multimodal.composition.audio import AudioComposerConfig
from multimodal.composition.levels import Level, active_level
from multimodal.composition.plan import NotNegative, Positive

EXPRESSIONS = {"A+B": 0.4, "A*B": 0.4, "A+B+C": 0.2}


@COMPOSERS.register("speech")
class SpeechComposerConfig(AudioComposerConfig):
    """The composer of sounds with the defaults of speech: pauses of 50 to 300 ms, words from 0.1 s
    on, what follows each other said by one speaker, two talkers within 3 dB, nothing repeated. The
    manifest's groups must be the speakers.
    """

    level: ClassVar[Level] = staticmethod(active_level)

    gap: tuple[NotNegative, NotNegative] = (0.05, 0.3)
    fade: NotNegative = 0.01
    snippet_seconds: tuple[Positive, Positive] = (0.1, 9.5)
    sources: Literal["any", "voices"] = "voices"
    loop: bool = False
    expressions: dict[str, Positive] = EXPRESSIONS
