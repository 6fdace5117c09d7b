"""What a new version of an eval set changes, and which verdicts still hold. Pure."""
