"""Keeps machine-learning libraries off the terminal: standard output belongs to the command's own answer."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Switch off progress bars, advice and warnings of the libraries. Imports transformers."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    import transformers
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    warnings.filterwarnings("ignore")
    for name in ("torch", "peft", "trl", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
