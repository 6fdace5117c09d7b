"""Puts the repository's root on the path, where the folder `fuzz` lies."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
