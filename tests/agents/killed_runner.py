"""A job's runner that is killed before the third step of its runbook is written down."""

from __future__ import annotations

import runpy

from stop_at import arm

if __name__ == "__main__":
    arm("modelsmith.operations.runbook_records:Runs.keep 3 before SIGKILL")
    runpy.run_module("modelsmith.operations.run_job", run_name="__main__", alter_sys=True)
