"""Hosts, and executors that run jobs on them."""
