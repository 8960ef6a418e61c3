"""Published figures beside ours: only of the same data and stream, with source, evidence, and what
differs nevertheless. One YAML file a table; a figure stands there only if it could be verified.
"""
