"""A real sshd on this machine's loopback, with keys of its own, and a way to it that touches nobody's ``~/.ssh``."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from ports import free_port

from modelsmith.fleet.remote.settings import Host

PATIENCE = 60.0


FETCHED = Path(__file__).parents[1] / ".cache" / "sshd"
"""Where ``make sshd`` puts it, with the library and, of newer ones, the programs that it needs."""


def sshd_program() -> str:
    """Where sshd is; the test is skipped where it is not, unless it must be."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin:{FETCHED}")
    if program is None:
        fail = pytest.fail if os.environ.get("MODELSMITH_REQUIRE_TOOLS") else pytest.skip
        fail("OpenSSH's server is not here: run make sshd")
    return str(program)


class Sshd:
    """One host: a server, its folder for work, and a home with base models."""

    def __init__(self, folder: Path, name: str = "gpu-1", **environment: str) -> None:
        self.name, self.folder, self._program = name, folder / name, sshd_program()
        self._environment = {
            "PYTHONPATH": str(Path(__file__).parent / "fleet"),
            "OMP_WAIT_POLICY": "PASSIVE",
        } | environment
        self.folder.mkdir(parents=True)
        self.work, self.home = self.folder / "a work folder", self.folder / "home"
        self.new_key()
        if not (folder / "id").exists():
            self._keygen(folder / "id")
        (self.folder / "authorized_keys").write_text((folder / "id.pub").read_text())
        self.port = free_port()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of a root shuts its unprivileged part in
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _keygen(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)

    def new_key(self) -> None:
        """Give the host another key."""
        self._keygen(self.folder / "host_key")

    @property
    def known(self) -> str:
        """Its line of known_hosts."""
        return f"[127.0.0.1]:{self.port} {(self.folder / 'host_key.pub').read_text()}"

    def start(self) -> None:
        """Listen, and wait until it does."""
        lines = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "yes",
            "MaxStartups": "100",
            "SetEnv": " ".join(f"{name}={value}" for name, value in self._environment.items()),
        }
        if Path(self._program).parent == FETCHED:
            parts = {"SshdSessionPath": FETCHED / "sshd-session", "SshdAuthPath": FETCHED / "sshd-auth"}
            lines |= {name: path for name, path in parts.items() if path.exists()}
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        log = (self.folder / "sshd.log").open("ab")
        environment = os.environ | {"LD_LIBRARY_PATH": str(FETCHED)}
        self._process = subprocess.Popen(
            [self._program, "-D", "-e", "-f", config], stdout=log, stderr=log, env=environment
        )
        until = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < until
            time.sleep(0.02)

    def cut(self) -> None:
        """End every connection; the next one is let in. Whatever it started stays."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if child.name().startswith("sshd"):
                    child.kill()

    def stop(self) -> None:
        """Let nobody in, and end every connection."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # nobody is let in between the two
        self.cut()
        self._process.kill()
        self._process.wait()

    def host(self, **more: object) -> Host:
        """It, as a machine's ``hosts.yaml`` says it."""
        return Host.model_validate(self.said() | more)

    def said(self) -> dict[str, object]:
        return {
            "address": "127.0.0.1",
            "user": getpass.getuser(),
            "port": self.port,
            "python": sys.executable,
            "folder": str(self.work),
            "home": str(self.home),
            "lost_seconds": 60.0,
        }

    def processes(self) -> list[psutil.Process]:
        """Those at work in its folder: keepers and workers."""
        alive = (
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
        )
        return [process for process in alive if self._is_at_work(process.info["cmdline"] or [])]

    def _is_at_work(self, words: list[str]) -> bool:
        is_session = "modelsmith.fleet.remote.host" in words
        return not is_session and any(word.startswith(str(self.work)) for word in words)

    def close(self) -> None:
        """End it, and all that is at work there."""
        assert self._process is not None
        if self._process.poll() is None:
            self.stop()
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()


class Ways:
    """This machine's way to hosts: an ``ssh`` before the real one that reads this folder's settings only."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.hosts: list[Sshd] = []
        tools = folder / "tools"
        tools.mkdir(parents=True)
        config = folder / "config"
        config.write_text(
            f"Host *\n IdentityFile {folder / 'id'}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {folder / 'known_hosts'}\n GlobalKnownHostsFile /dev/null\n"
        )
        ssh = tools / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        ssh.chmod(0o755)
        patch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    def host(self, name: str = "gpu-1", **environment: str) -> Sshd:
        """Another host, whose key is known; what it starts has these variables."""
        host = Sshd(self.folder, name, **environment)
        self.hosts.append(host)
        self.know()
        return host

    def know(self) -> None:
        """Know every host by the key that it has now."""
        (self.folder / "known_hosts").write_text("".join(host.known for host in self.hosts))

    def write(self, home: Path, **more: object) -> None:
        """Say them in the home's ``hosts.yaml``."""
        home.mkdir(parents=True, exist_ok=True)
        fields = {"hosts": {host.name: host.said() | more for host in self.hosts}}
        (home / "hosts.yaml").write_text(yaml.safe_dump(fields))

    def close(self) -> None:
        for host in self.hosts:
            host.close()
