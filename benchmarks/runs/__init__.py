"""A run: its folder, its life, the machine and the data that it has, what it tells of itself."""
