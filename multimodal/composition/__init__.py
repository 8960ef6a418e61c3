"""Scenes composed of single-event recordings, with exact times, captions and graded negatives.

After CompA (Ghosh et al., ICLR 2024, arXiv 2310.08753), whose generator is a reference mode in
``tree``; everything else here is a design of ours, see docstrings. ``expressions``, ``relations``,
``meanings``, ``lexicons``, ``captions``, ``plan``, ``layout``, ``scenes``, ``draw``, ``twins`` and
``recorded`` know no modality: times are steps of a pool's rate. ``levels``, ``snippets``,
``audio``, ``tree`` and ``speech`` know sound; ``ecg``, ``video`` and ``xray`` their signals. A
modality's composer is a registered config with ``open(signals, rows, phrases=...)`` -> pool and
clips, and ``render(scenes, rows, clips)`` -> values and lengths.
"""

from __future__ import annotations

from multimodal.registry import Registry

COMPOSERS = Registry("composer", "multimodal.composition")
