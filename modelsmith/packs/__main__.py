"""Writes the plugin and its catalogue into the repository around this package: ``python -m modelsmith.packs``."""

from __future__ import annotations

import json
from pathlib import Path

from modelsmith.packs.contents import marketplace, plugin

files = {f"packs/modelsmith/{path}": text for path, text in plugin().items()}
files[".claude-plugin/marketplace.json"] = json.dumps(marketplace(), indent=2) + "\n"
for path, text in files.items():
    place = Path(__file__).parents[2] / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
