"""Streams of batches: scenarios, learners, memories, metrics and exact resume."""
