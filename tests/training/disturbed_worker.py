"""The real worker of a training, which the variable DISTURBED lets fail or die on its way.

``oom``: on the last of its devices memory runs out, from the second step on, while a step goes through the model as
one part. Anything else is a point as ``journey/stop_at.py`` takes it, with commas for spaces; it is met once in a
job's folder, so that the next worker gets by.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

MARK = ".disturbed"


def short_of_memory() -> None:
    import torch

    from modelsmith.training import grpo

    real = grpo._Trainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.args.gradient_accumulation_steps == 1 and self.state.global_step:
            torch.empty(10**15)
        return real(self, *args, **kwargs)

    grpo._Trainer.compute_loss = compute_loss  # type: ignore[method-assign]


def disturb(folder: Path, how: str) -> None:
    if how == "oom":
        if os.environ.get("RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1):
            short_of_memory()
        return
    if (folder / MARK).exists():
        return
    (folder / MARK).touch()
    sys.path.insert(0, str(Path(__file__).parents[1] / "journey"))
    from stop_at import arm

    arm(how.replace(",", " "))


if __name__ == "__main__":
    disturb(Path(sys.argv[1]), os.environ["DISTURBED"])
    runpy.run_module("modelsmith.training.worker", run_name="__main__", alter_sys=True)
