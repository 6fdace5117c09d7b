"""``make tour``: from an approval to production and back, in some two minutes on two cores, without a network.

Everything is the product's own: commands as a user types them, real pull requests, signatures and HTTP. Three things
stand in: the model (a Llama of random weights, since an answer of the demo's takes seconds), the eval's thresholds (0,
for that model), and the customers (`tour.traffic`). What is said is what the commands printed; a step that does not
come out as told ends the tour with an error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tour.market import CLUSTER, DOOR, METRIC, PEOPLE, propose_door, propose_window, write_kit, write_person
from tour.traffic import trade

MARK = "made-by-make-tour"
PATIENCE = 900.0
"""Seconds for what takes a few on an idle machine."""


class Tour:
    """The folder of one tour, and how its commands are run and shown."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone = folder, folder / "market"
        variables = {
            "MODELSMITH_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "150",
        }
        self.environment = os.environ | variables

    def begin(self) -> None:
        """An empty folder, whatever an earlier tour left in it; nothing else is ever removed."""
        if self.folder.exists() and not (self.folder / MARK).exists():
            raise SystemExit(f"{self.folder} is not the folder of a tour; move it away.")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / MARK).write_text("")

    def chapter(self, title: str, *lines: str) -> None:
        """A heading, and what happens next."""
        print(f"\n== {title}\n", flush=True)
        for line in lines:
            print(f"   {line}", flush=True)

    def modelsmith(self, *words: str, show: str = ".", cwd: Path | None = None) -> None:
        """Run a command and print it with those of its lines that match ``show``."""
        print(f"\n   $ {shlex.join(('modelsmith', *words))}", flush=True)
        output = self._run(words, cwd)
        for line in output.splitlines():
            if line.strip() and re.search(show, line):
                print(f"   {line}", flush=True)

    def ask(self, *words: str) -> Any:
        """What a command says to machines."""
        return json.loads(self._run((*words, "--json"), None))

    def _run(self, words: tuple[str, ...], cwd: Path | None) -> str:
        command = [sys.executable, "-m", "modelsmith", *words]
        process = subprocess.run(command, cwd=cwd or self.clone, env=self.environment, capture_output=True, text=True)
        if process.returncode not in (0, 4):  # 4: it waits for a person
            raise SystemExit(
                f"\n`modelsmith {' '.join(words)}` ended with {process.returncode}:\n{process.stdout}{process.stderr}"
            )
        return process.stdout

    def approve(self, by: str) -> None:
        """A person approves the one open pull request, which is then merged."""
        (pull,) = self.ask("pr", "list")["pulls"]
        number = str(pull["number"])
        print(f"\n   {by} reads and approves: {pull['title']}", flush=True)
        self.modelsmith("approve", number, "--key", f"../{by}", show="gate|waits")
        self.modelsmith("pr", "merge", number)

    def require(self, true: bool, condition: str) -> None:
        """End the tour when something is not as it was told."""
        if not true:
            log = self.folder / "door.log"
            text = log.read_text().strip().splitlines()[-3:] if log.exists() else []
            log_lines = "".join(f"\n  {line}" for line in ("The door said last:", *text)) if text else ""
            raise SystemExit(
                f"\nThe tour ends here, since this did not come true: {condition}.{log_lines}\n"
                "On a machine that is busy with other work it can take too long: run `make tour` again later."
            )

    def wait(self, true: Callable[[], bool], condition: str, every: float = 1.0) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE
        while not true():
            self.require(time.monotonic() < end, condition)
            time.sleep(every)

    @contextmanager
    def door(self) -> Iterator[str]:
        """The front door, as a process of its own; its address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["serve", "--no-keys", "--port", str(port)]
        print(f"\n   $ modelsmith {' '.join(words)} &", flush=True)
        log = self.folder / "door.log"
        with log.open("w") as out:
            command = [sys.executable, "-m", "modelsmith", *words]
            process = subprocess.Popen(command, cwd=self.clone, env=self.environment, stdout=out, stderr=out)
        try:
            url = f"http://127.0.0.1:{port}"
            self.wait(lambda: process.poll() is None and self.obeys(url), "the door obeys main")
            yield url
        finally:
            process.terminate()
            process.wait()

    def obeys(self, url: str) -> bool:
        """Whether the door obeys main as it is in the clone now."""
        main = subprocess.check_output(["git", "-C", str(self.clone), "rev-parse", "main"], text=True).strip()
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                return bool(json.load(answer).get("commit") == main)
        except OSError:
            return False

    def customers(self, door: str, number: int, wins: dict[str, float]) -> Counter[str]:
        """Simulated customers, and who answered them."""
        answered = trade(door, CLUSTER, METRIC, wins, number)
        for arm, count in sorted(answered.items()):
            print(f"   {count:5} answers by {arm}", flush=True)
        return answered


def main() -> None:
    """Walk through it, in the folder that the first argument names."""
    tour = Tour(Path(sys.argv[1]).resolve())
    began = time.monotonic()
    tour.begin()
    tour.chapter(
        "A promotion repository",
        "One cluster. Half of the traffic will be a new specialist's while it is watched. The rule that people approve",
        "with each deployment: traffic goes back by itself when the win rate is worse than half of the incumbent's.",
    )
    kit = write_kit(tour.folder)
    for name in PEOPLE:
        write_person(tour.folder, name)
    people = [word for name, roles in PEOPLE.items() for role in roles for word in ("--person", f"{role}={name}.pub")]
    tour.modelsmith("init", "market", "--kit", str(kit), *people, cwd=tour.folder, show="clusters|people|root")
    propose_door(tour.clone, tour.folder / "door.pem", "front-door")
    for name, value in (("door", DOOR), ("doorkey", str(tour.folder / "door.pem"))):
        subprocess.run(["git", "-C", str(tour.clone), "config", f"modelsmith.{name}", value], check=True)
    tour.modelsmith(
        "pr", "open", "front-door", "--title", "The front door is an observer", "--key", "../hana", show="status|waits"
    )
    tour.approve("pia")

    tour.chapter(
        "A specialist",
        "The loop measures the base model, trains on what failed, measures again, and stops at a person.",
    )
    tour.modelsmith("iterate", CLUSTER, show="verdict|waits|Pull request|approve")
    tour.approve("hana")
    with tour.door() as door:
        serve(tour, door)
    tour.chapter("What is left of it", "Every step verifies offline from the pinned root, in any clone.")
    tour.modelsmith("verify", show="^  (verified|changes|approvals|main|weights)|yes")
    tour.modelsmith("pr", "list", "--all")
    pictures = [str(tour.folder / name) for name in ("confirmed.svg", "taken-back.svg", "history.svg")]
    print("\n   Pictures:", *pictures, sep="\n     ")
    print(f"\n   Look around: cd {tour.clone}; export MODELSMITH_HOME={tour.folder / 'home'}")
    print(f"   {time.monotonic() - began:.0f} seconds", flush=True)


def serve(tour: Tour, door: str) -> None:
    """What happens while the front door serves."""
    first = tour.ask("live", CLUSTER)["specialist"]
    tour.chapter(
        "A healthy canary",
        f"1,000 simulated customers. {first} wins about as often as the base model; nobody has told the door.",
    )
    tour.customers(door, 1_000, {first: 0.62, "others": 0.6})
    print("\n   The window that people approved is one minute; the rest of it is waited for.", flush=True)
    tour.wait(lambda: tour.ask("live", CLUSTER)["outcome"] == "confirm", "the window confirms the specialist", every=3)
    tour.modelsmith("live", CLUSTER, "--svg", "../confirmed.svg")
    tour.modelsmith("promote", CLUSTER, show="Pull request|Waits")
    tour.approve("hana")

    tour.chapter(
        "Its successor is worse",
        "The next one is to be watched for an hour: the terms of a deployment are changed by pull request, too.",
        "Then the loop trains another one, and a person lets it into the canary.",
    )
    propose_window(tour.clone, 60, "window")
    tour.modelsmith("pr", "open", "window", "--title", "Watch for an hour", "--key", "../hana", show="status|waits")
    tour.approve("pia")
    tour.modelsmith("iterate", CLUSTER, show="verdict|waits|Pull request|approve")
    tour.approve("hana")
    tour.wait(lambda: tour.obeys(door), "the door obeys main")
    second = tour.ask("live", CLUSTER)["specialist"]
    print(f"\n   Customers of {second} win in 20 of 100 cases, the others in 60.", flush=True)
    for _ in range(20):
        tour.customers(door, 60, {second: 0.2, "others": 0.6})
        if tour.ask("live", CLUSTER)["latched"]:
            break
    tour.wait(lambda: tour.ask("live", CLUSTER)["ended_by"] == "rolled-back", "the rollback is merged by its contract")
    print("\n   The door said:", flush=True)
    for line in (tour.folder / "door.log").read_text().splitlines():
        if second in line:
            print(f"   {line}", flush=True)
    tour.modelsmith("live", CLUSTER, "--svg", "../taken-back.svg")
    print("\n   The next customers, none of whom meets it:", flush=True)
    tour.require(set(tour.customers(door, 100, {"others": 0.6})) == {first}, f"all traffic goes to {first}")
    tour.modelsmith("status", show="serving|state|on hold|clear")
    tour.modelsmith("composite-history", CLUSTER, "--svg", "../history.svg", show="iter-|base")


if __name__ == "__main__":
    main()
