"""Moves a specialist from event to event by pull request; receipts; replay of the whole history."""
