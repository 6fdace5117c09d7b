"""Failures to clusters to training rows, and the firewall that keeps scored text out of them."""
