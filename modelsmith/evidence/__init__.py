"""One run's facts: a sanitised bundle that recomputes, and the packet and picture that a reviewer reads."""
