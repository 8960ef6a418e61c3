"""``medley align``: a signal encoder is aligned with texts."""
