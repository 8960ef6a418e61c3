"""Signals, text, encoders and objectives: everything about ONE batch."""
