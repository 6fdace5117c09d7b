"""What tests of delivery share."""

from __future__ import annotations

from happenings import plain_clone, receive, telling

__all__ = ["plain_clone", "receive", "telling"]
