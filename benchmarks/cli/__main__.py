"""``python -m benchmarks.cli``, for torchrun."""

from benchmarks.cli import main

main()
