"""Evaluation of embeddings: functions of arrays and labels; no model, no file of a dataset.

A text tower comes in as a callable, ``EmbedTexts`` of ``embeddings.py``. Nothing draws a random
number, but for the bootstrap intervals, whose generator has a seed of its own.
"""
