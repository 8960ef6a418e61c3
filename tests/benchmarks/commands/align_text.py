"""A small config of ``medley align``, on the recordings of ``tiny``."""

from __future__ import annotations

ALIGN = """\
experiment: tones
dataset: {name: folder, root: clips, modality: speech}
encoder: {name: compact, width: 16, depth: 1, heads: 2}
objectives: [cwcl]
captions: labels
training: {epochs: 2, batch_size: 4, device: cpu, log_every: 1}
tracking: {store: none}
"""
