"""A workflow's job as GitHub runs it, against the server of its shape."""

from __future__ import annotations

import json
import os
import subprocess

from worlds import WARM


class Runner:
    """A workflow's job: main checked out, and the environment that GitHub documents for it."""

    def __init__(self, world, folder, token):
        self.world, self.folder, self.token = world, folder, token
        self.clone = folder / "work"
        subprocess.run(["git", "clone", "-q", world.bare, self.clone], check=True)

    def environment(self, name="", event=None):
        path = self.folder / "event.json"
        path.write_text(json.dumps(event or {}))
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "MODELSMITH_", "GITHUB_"))
        }
        return inherited | {
            "HOME": str(self.folder), "MODELSMITH_HOME": str(self.folder / "home"),
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
            "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": self.world.github.web,
            "GITHUB_REPOSITORY": self.world.repo.full_name, "GITHUB_EVENT_NAME": name,
            "GITHUB_EVENT_PATH": str(path), "GITHUB_TOKEN": self.token,
        }  # fmt: skip

    def check(self, *words, name="", event=None):
        code, out, err = WARM.run(["check", *words, "--json"], self.clone, self.environment(name, event))
        assert self.token not in out + err
        return code, json.loads(out)


def check_conclusions(hub, commit):
    """Check runs as GitHub shows them: the last one of each name."""
    return {run["name"]: run["conclusion"] for run in hub.repo.runs if run["head_sha"] == commit}


def opened_event(number):
    return {"action": "opened", "pull_request": {"number": number, "title": "$(touch pwned)", "head": {"ref": "`id`"}}}
