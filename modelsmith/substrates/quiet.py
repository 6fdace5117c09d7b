"""Keeps machine-learning libraries off the terminal: standard output belongs to the command's own answer."""

from __future__ import annotations

import logging
import os


def quiet() -> None:
    """Switch off progress bars and advice of the libraries. Imports transformers.

    Warnings are the process's own business: Python has one list of filters for all of its threads. The command line and
    a training's worker, which are alone in their processes, say there what they do not want to see.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    import transformers
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    for name in ("torch", "peft", "trl", "datasets", "accelerate", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
