"""``medley bench``: learners on streams."""
