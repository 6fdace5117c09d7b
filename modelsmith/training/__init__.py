"""Training rows to adapter: the worker process, its failure classes and its recovery."""
