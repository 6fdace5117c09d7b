"""The front door: who answers a request, and how the answer comes back."""
