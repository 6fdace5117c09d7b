"""Fuzzing of every parser that reads what others wrote. `python -m fuzz --list` names the targets."""
