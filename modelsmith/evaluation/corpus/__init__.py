"""Coverage of an eval set: how its scenarios are spread, and where two say the same."""
