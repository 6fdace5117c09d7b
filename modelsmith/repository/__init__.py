"""The promotion repository on disk and in git: load, validate, address, append."""
