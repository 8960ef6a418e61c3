"""``medley explain``: where in a recording a score came from."""
