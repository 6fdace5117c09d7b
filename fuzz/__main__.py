"""``python -m fuzz TARGET SECONDS`` fuzzes one target with atheris; ``python -m fuzz --list`` names them all.

The corpus begins with the target's seeds and grows in ``fuzz/corpus/TARGET``; an input that breaks the promise is kept
in ``fuzz/crashes/TARGET`` and ends the run with a failure. Run it again with that file's path in place of the seconds.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
INPUT_SECONDS = 20
"""Longest time that one input may take."""
MEGABYTES = 1024
"""Most memory that the process may have."""


def main(name: str, run: str) -> None:
    """Fuzz for that many seconds, or read one file."""
    import atheris

    with atheris.instrument_imports(include=["modelsmith"], enable_loader_override=False):
        from fuzz.mutate import WORDS
        from fuzz.targets import TARGETS

    target = TARGETS[name]
    if not run.isdecimal():
        target.run(Path(run).read_bytes())
        return
    corpus, crashes = HERE / "corpus" / name, HERE / "crashes" / name
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = HERE / "corpus" / "words.dict"
    words.write_text(
        "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS if len(word) < 64)
    )
    options = {
        "max_total_time": run, "timeout": INPUT_SECONDS, "rss_limit_mb": MEGABYTES, "max_len": 65536,
        "artifact_prefix": f"{crashes}/", "dict": words, "verbosity": 0, "print_final_stats": 1,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(corpus)], target.run)
    atheris.Fuzz()


def apart(name: str, run: str) -> int:
    """`main` in a process whose temporary files go with it: atheris ends its process at once, and nothing tidies up."""
    program = "import sys; from fuzz.__main__ import main; main(*sys.argv[1:])"
    with tempfile.TemporaryDirectory(prefix="modelsmith-fuzz-") as folder:
        command = [sys.executable, "-c", program, name, run]
        return subprocess.run(command, check=False, env=os.environ | {"TMPDIR": folder}).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        from fuzz.targets import TARGETS

        print("\n".join(TARGETS))
    elif len(sys.argv) == 3:
        sys.exit(apart(*sys.argv[1:]))
    else:
        sys.exit(__doc__)
