"""``modelsmith doctor``: what this machine and clone can and cannot do."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from modelsmith.forges.github.place import is_github
from modelsmith.governance.keys import may_sign
from modelsmith.governance.names import holders
from modelsmith.operations.contract import Cli, Request, Result
from modelsmith.operations.doctor_clusters import cluster_findings
from modelsmith.operations.doctor_github import SettingChange, apply_settings, github_findings
from modelsmith.operations.doctor_hosts import host_findings
from modelsmith.operations.finding import Finding
from modelsmith.promotion.governed_state import GovernedState, read_governed_state
from modelsmith.promotion.harness import is_url
from modelsmith.promotion.root import find_root
from modelsmith.repository.invocation import without_passwords
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.paths import place
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit, ModelsmithError
from modelsmith.schema.plain_file import who_else_writes

FREE_GIGABYTES = 5
ENDING_SOON = timedelta(days=30)
EXTRAS = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "gguf", "huggingface_hub"),
    "sign": ("model_signing", "sigstore"),
    "endpoint": ("aiohttp",),
    "serve": ("aiohttp", "prometheus_client", "uvloop"),
    "events": ("anyio", "cloudevents", "httpcore", "standardwebhooks"),
    "inspect": ("inspect_ai",),
    "github": ("git", "github"),
    "mcp": ("cloudevents", "jwt", "mcp"),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "otel": ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk"),
    "qlora": ("bitsandbytes",),
}
"""Every extra that a user installs, and what it brings, by the names that are imported."""


class DoctorRequest(Request):
    """Looks at tools, extras, keys, forge, roles, stores, models, judges, baselines and hosts; says what mends them.

    Weights are read to their last byte. No server is asked but the hosts of this machine's ``hosts.yaml``, and GitHub,
    where the forge is there: what it enforces for main is read, and what this token may not see counts as missing.
    """

    apply: Annotated[
        bool,
        Field(description="Show what GitHub should enforce for main, ask, and set it (ruleset `modelsmith`)."),
        Cli(person=True),
    ] = False
    yes: Annotated[bool, Field(description="With --apply: set it without asking."), Cli(person=True)] = False
    merger: Annotated[
        str | None,
        Field(
            pattern=r"^(app/)?[A-Za-z0-9][A-Za-z0-9-]{0,99}$",
            description="With --apply: the account that pushes receipts, as LOGIN or app/SLUG, passes the ruleset.",
        ),
        Cli(person=True),
    ] = None


class DoctorResult(Result):
    """Everything that was looked at, with its mend."""

    findings: tuple[Finding, ...]
    changes: tuple[SettingChange, ...] = ()
    """With ``apply``: what differs at GitHub from what it should be, and whether it was set."""

    @override
    def exit_code(self) -> Exit:
        bad = any(finding.level == "bad" for finding in self.findings)
        return Exit.INFRASTRUCTURE if bad else Exit.DONE

    @override
    def question(self) -> str | None:
        return "Set this at GitHub?" if any(not change.done for change in self.changes) else None


def run(workspace: Workspace, request: DoctorRequest) -> DoctorResult:
    """Look; nothing is changed but at GitHub, with ``apply`` and ``yes``."""
    changes = apply_settings(workspace, request.merger, request.yes) if request.apply else ()
    findings = [*_machine(workspace)]
    try:
        findings += _clone(workspace)
        main = read_governed_state(workspace.git, "HEAD")
        now = datetime.now(UTC)
        findings += [_root(workspace), *_roles(main, now), *_keys(main, now)]
        findings += cluster_findings(workspace, main)
        findings += host_findings(workspace, main)
    except ModelsmithError as error:
        findings.append(Finding(subject="repository", level="bad", sentence=error.message, mend=error.mend))
    return DoctorResult(findings=tuple(findings), changes=changes)


def _machine(workspace: Workspace) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(subject="python", level="ok", sentence=version)
    for tool, args in (("git", ["--version"]), ("ssh-keygen", [])):
        if shutil.which(tool) is None:
            yield Finding(subject=tool, level="bad", sentence="not found", mend=f"Install {tool}.")
        elif args:
            output = subprocess.run([tool, *args], capture_output=True, text=True, check=False).stdout.strip()
            yield Finding(subject=tool, level="ok", sentence=output)
        else:
            yield Finding(subject=tool, level="ok", sentence="found")
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if not _is_here(name)]
        if missing:
            yield Finding(
                subject=f"extra {extra}", level="note", sentence=f"without {', '.join(missing)}",
                mend=f"pip install 'modelsmith[{extra}]'",
            )  # fmt: skip
        else:
            yield Finding(subject=f"extra {extra}", level="ok", sentence="installed")
    yield from _home(workspace)
    free = shutil.disk_usage(workspace.root).free // 10**9
    level: Literal["ok", "note"] = "ok" if free >= FREE_GIGABYTES else "note"
    yield Finding(subject="disk", level=level, sentence=f"{free} GB free", mend="" if level == "ok" else "Free some.")


def _home(workspace: Workspace) -> Iterator[Finding]:
    with suppress(OSError):
        if others := who_else_writes(workspace.home):
            yield Finding(
                subject="home", level="note", sentence=f"who can write in MODELSMITH_HOME holds its keys: {others}",
                mend=f"If that is not meant: chmod go-w {workspace.home}, or name a folder of your own.",
            )  # fmt: skip


def _is_here(module: str) -> bool:
    """Whether a module could be imported; of one within others, whether each of them could."""
    parent = module.rpartition(".")[0]
    return (not parent or _is_here(parent)) and importlib.util.find_spec(module) is not None


def _clone(workspace: Workspace) -> Iterator[Finding]:
    yield from _hooks(workspace)
    forge, keys, identity = (workspace.setting(name) for name in ("forge", "keys", "identity"))
    if not forge:
        yield Finding(
            subject="forge", level="note", sentence="this clone knows none; it can only read",
            mend="git config modelsmith.forge PATH-OR-URL",
        )  # fmt: skip
    else:
        yield from _forge(workspace, forge)
    if identity and keys:
        for name in ("harness.pem", "harness-ssh"):
            path = place(Path(keys), workspace.root) / name
            if not path.is_file():
                yield Finding(subject="keys", level="bad", sentence=f"{name} is missing", mend="Restore the key.")
            elif stat.S_IMODE(path.stat().st_mode) & 0o077:
                yield Finding(
                    subject="keys",
                    level="bad",
                    sentence=f"{name} is readable by others",
                    mend=f"chmod 600 {shlex.quote(str(path))}",
                )
            else:
                yield Finding(subject="keys", level="ok", sentence=f"{identity}'s {name} is private")


def _hooks(workspace: Workspace) -> Iterator[Finding]:
    """Where plain git takes this clone's hooks from. In the work tree, any committer would decide what runs here."""
    words = workspace.git.text("config", "--show-scope", "-z", "--list").split("\0")
    named = [
        (scope, value)
        for scope, (name, _, value) in zip(words[::2], (entry.partition("\n") for entry in words[1::2]), strict=False)
        if name == "core.hookspath" and scope != "command"
    ]
    if not named:
        return
    scope, value = named[-1]
    root, own = workspace.root, workspace.private.parent.resolve()
    path = Path(os.path.abspath(root / Path(value).expanduser()))
    if any(place.is_relative_to(root) and not place.is_relative_to(own) for place in (path, path.resolve())):
        yield Finding(
            subject="hooks",
            level="bad",
            sentence=f"core.hooksPath is {value!r}, in the work tree: git runs what any commit puts there",
            mend=f"git config --{scope} --unset-all core.hooksPath",
        )


def _forge(workspace: Workspace, forge: str) -> Iterator[Finding]:
    """Where the gate is enforced, in the words of the threat model's three deployments."""
    path = place(Path(forge.removeprefix("file://")), workspace.root)
    if is_github(forge):
        yield from github_findings(workspace, forge)
        return
    if is_url(forge) and not forge.startswith("file://"):
        yield Finding(subject="forge", level="ok", sentence=f"at {without_passwords(forge)}")
        yield Finding(
            subject="deployment",
            level="ok",
            sentence="forge on another user or host: its hook prevents what this account could do to a forge of its "
            "own; that the hook is there cannot be seen from here",
            mend="See docs/threat-model.md; on the forge's host, `modelsmith hook install REPOSITORY`.",
        )
        return
    if not (path / "HEAD").is_file():
        yield Finding(subject="forge", level="bad", sentence=f"{path} is no bare repository", mend="Mend the setting.")
        return
    hook = path / "hooks" / "pre-receive"
    if os.access(hook, os.X_OK) and (missing_python := _gone_python(hook)):
        yield Finding(
            subject="forge",
            level="bad",
            sentence=f"its pre-receive hook cannot run: {missing_python} is gone",
            mend=f"modelsmith hook install {shlex.quote(str(path))}",
        )
    elif os.access(hook, os.X_OK):
        yield Finding(subject="forge", level="ok", sentence="local, with its pre-receive hook")
    else:
        yield Finding(
            subject="forge",
            level="bad",
            sentence="its pre-receive hook is missing",
            mend=f"modelsmith hook install {shlex.quote(str(path))}",
        )
    yield Finding(
        subject="deployment",
        level="note",
        sentence="same user and disk: whoever uses this account can write past the hook; `verify` detects it",
        mend="Put the forge under another user or on another host to prevent it; see docs/threat-model.md.",
    )


def _gone_python(hook: Path) -> str | None:
    """The interpreter that our hook names, when it cannot be started; None for another hook."""
    command = re.search(r"^exec (.+) -P -m modelsmith hook pre-receive$", hook.read_text("utf-8", "replace"), re.M)
    words = shlex.split(command[1]) if command else []
    return words[0] if len(words) == 1 and not os.access(words[0], os.X_OK) else None


def _root(workspace: Workspace) -> Finding:
    """The root to pin: of the commit from which main is governed, whatever has changed since."""
    pinned = workspace.setting("root")
    with ObjectReader(workspace.root) as git:
        _, root = find_root(git, git.first_parent_log("HEAD"), pinned)
    if pinned:
        return Finding(subject="governance root", level="ok", sentence=f"{root}, pinned by this clone")
    return Finding(
        subject="governance root",
        level="note",
        sentence=f"{root}, not pinned",
        mend=f"Compare it with a source that you trust, then: git config modelsmith.root {root}",
    )


def _roles(main: GovernedState, now: datetime) -> Iterator[Finding]:
    able = [person for person in main.people.people if any(may_sign(key, now) for key in person.keys)]
    held_roles = {role for person in able for role in person.roles}
    for role in sorted(main.people.roles.keys() - held_roles):
        decides = [transition.event for transition in main.policy.transitions if transition.gate == role]
        yield Finding(
            subject="roles", level="note",
            sentence=f"nobody with a valid key holds {role}" + (f" (decides {', '.join(decides)})" if decides else ""),
            mend="Add a person or a key to people.yaml.",
        )  # fmt: skip


def _keys(main: GovernedState, now: datetime) -> Iterator[Finding]:
    """Keys that say nothing, or soon will not: see docs/key-rotation.md."""
    for holder in holders(main.people):
        for key in holder.keys:
            expiry, mend = "", "Rotate it while it is valid."
            if key.revoked_at is not None:
                expiry, mend = f"revoked on {key.revoked_at:%Y-%m-%d}", ""
            elif key.valid_before is not None and key.valid_before <= now:
                expiry, mend = f"ended on {key.valid_before:%Y-%m-%d}", ""
            elif key.valid_before is not None and key.valid_before <= now + ENDING_SOON:
                expiry = f"ends on {key.valid_before:%Y-%m-%d}"
            if expiry:
                kind, _, body = key.key.partition(" ")
                yield Finding(
                    subject=f"key of {holder.id}", level="note", sentence=f"{kind} ...{body[-8:]} {expiry}", mend=mend
                )
