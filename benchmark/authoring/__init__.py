"""What a plugin promises, and `--check`."""
