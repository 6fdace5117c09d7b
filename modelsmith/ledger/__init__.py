"""What happened: runs, attempts and typed events, queryable by tag."""
