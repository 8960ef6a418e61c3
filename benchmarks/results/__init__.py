"""Result files: what a run leaves behind, written and read back."""
