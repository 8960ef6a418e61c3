"""A small config of ``medley finetune``, on the recordings of ``tiny``."""

FINETUNE = """\
experiment: tuned
dataset: {name: folder, root: clips, modality: speech}
encoder: {name: compact, width: 16, depth: 1, heads: 2}
methods: [lora]
training: {epochs: 2, batch_size: 4, device: cpu, log_every: 1}
tracking: {store: none}
"""
