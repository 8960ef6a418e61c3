"""Sound files: what a container states, what is decoded from it, and whether the two agree."""
