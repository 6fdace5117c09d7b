"""Sealed, content-addressed output of training, and the store that keeps it."""
