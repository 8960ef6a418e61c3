"""What the commands of ``cli.py`` do: a command is a file or a folder."""
