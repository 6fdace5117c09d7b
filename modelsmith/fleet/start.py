"""Runs a module of this very toolkit in a process of its own: ``python -P start.py MODULE ARGUMENT...``.

With ``-P`` no working directory and no script's folder is a place to import from. The toolkit is the one that this file
belongs to; the folder above it, which may be a work tree, is not a place to import from either.

Standard library only, since nothing else is found before.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path


def main(module: str, arguments: list[str]) -> None:
    """Run the module as ``__main__``."""
    package = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    toolkit = importlib.util.module_from_spec(spec)
    sys.modules[package.name] = toolkit
    spec.loader.exec_module(toolkit)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
