"""What a user runs: the command line, configs, runs, tracking and reports."""
