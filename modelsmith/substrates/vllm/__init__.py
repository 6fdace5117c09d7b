"""A vLLM server of our own."""
