"""``medley predict``: trained models name new recordings."""
