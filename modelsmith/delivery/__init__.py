"""Events out of the clone: as CloudEvents, in signed webhooks, with a cursor for each subscriber."""
