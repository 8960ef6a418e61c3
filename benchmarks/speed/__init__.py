"""Benchmarks of our own speed, each against a named peer in the same process.

``python -m benchmarks.speed.NAME [--quick]`` prints a table (median, minimum and maximum) and, as
its last line, one JSON object of its figures. ``results/`` keeps measured tables.
"""
