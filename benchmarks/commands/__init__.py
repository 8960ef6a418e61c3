"""What the commands of ``cli`` do: a command is a file or a folder."""
