"""Settings and their loading."""
