"""Tools for agents over the Model Context Protocol, made from the operations table."""
