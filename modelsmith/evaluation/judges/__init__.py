"""Judged points: what a judge model is asked, who is asked, and how far people agree with it."""
