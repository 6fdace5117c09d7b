"""``modelsmith init``: a promotion repository from a kit, with its local forge and first keys."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML

from modelsmith.forges.pre_receive import install_hook
from modelsmith.operations.contract import ARGUMENT, Cli, Request, Result
from modelsmith.repository.git import Git, Signature
from modelsmith.repository.kits import find_kit, kit_files
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.signing.keys import create_signing_key, create_ssh_key
from modelsmith.signing.ssh import public_key

HARNESS = "modelsmith-harness"
GOVERNANCE = ".github/governance"
GITIGNORE = b".iterate/\n"
README = """\
# Promotion repository ({kit})

Governed files of a domain specialist: `evals/` says what better means, `clusters/` what is trained and who serves,
`promotions/` what was promoted, by whom and on what evidence. Every change is a pull request.

    modelsmith status
    modelsmith iterate {cluster}
    modelsmith pr list
    modelsmith verify
"""


class InitRequest(Request):
    """Creates DIR as a git repository, a bare repository beside it that acts as its forge, and the harness's keys.

    People are enrolled with the public half of their own SSH key. The harness's keys lie under MODELSMITH_HOME
    (~/.local/share/modelsmith), never in the repository.
    """

    directory: Annotated[Path, Field(description="Folder to create."), ARGUMENT]
    kit: Annotated[str, Field(description="Domain to start from.")] = "adtech"
    forge: Annotated[
        Path | None, Field(description="Bare repository to create as the forge; DIR.git when not set.")
    ] = None
    people: Annotated[
        tuple[str, ...],
        Field(description="ROLE=KEY.pub: enrol the holder of this SSH key. Repeat for more."),
        Cli(option="--person"),
    ] = ()


class InitResult(Result):
    """Where everything is."""

    directory: str
    forge: str
    kit: str
    repository: str
    clusters: tuple[str, ...]
    people: dict[str, tuple[str, ...]]
    """Person and roles."""
    unheld_roles: tuple[str, ...]
    """Roles that nobody holds yet: their gates cannot open."""
    root: str
    """Fingerprint of the governance root, to be pinned by `modelsmith verify --root`; this clone pins it already."""


def run(workspace: Workspace, request: InitRequest) -> InitResult:
    """Make the repository, or leave nothing behind."""
    target = (workspace.root / request.directory).resolve()
    forge = (workspace.root / request.forge).resolve() if request.forge else target.with_name(target.name + ".git")
    for path in (target, forge):
        if path.exists() and any(path.iterdir()):
            raise InvalidInput(
                "not-empty", f"{path} exists and is not empty", "Choose another folder, or remove this one."
            )
    kit = find_kit(request.kit)
    enrolled = [_person(workspace.root, text) for text in request.people]
    try:
        return _create(workspace, target, forge, kit.name, enrolled)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(forge, ignore_errors=True)
        raise


def _create(
    workspace: Workspace, target: Path, forge: Path, kit_name: str, enrolled: list[tuple[str, str, str]]
) -> InitResult:
    from modelsmith.promotion.root import root_fingerprint

    kit = find_kit(kit_name)
    repository = f"{kit.name}-{uuid.uuid4()}"
    keys = workspace.home / "keys" / repository
    pem = create_signing_key(keys / "harness.pem")
    create_ssh_key(keys / "harness-ssh", HARNESS)
    files = dict(kit_files(kit))
    clusters = tuple(sorted({p.split("/")[1] for p in files if p.startswith("clusters/") and p.count("/") == 2}))
    files[f"{GOVERNANCE}/trust/harness.pem"] = pem
    files[f"{GOVERNANCE}/policy.yaml"] = _edit(files[f"{GOVERNANCE}/policy.yaml"], {"repository": repository})
    people = _people_block(enrolled)
    harness = [{"id": HARNESS, "keys": [{"key": public_key(keys / "harness-ssh.pub")}], "trust": ["harness.pem"]}]
    files[f"{GOVERNANCE}/people.yaml"] = _edit(
        files[f"{GOVERNANCE}/people.yaml"], {"people": people, "harness": harness}
    )
    files[".gitignore"] = GITIGNORE
    files["README.md"] = README.format(kit=kit.name, cluster=clusters[0]).encode()
    for name, data in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    report = validate(WorkTree(target))
    if report.problems:
        raise InvalidInput(
            "invalid-kit", "The kit does not validate", "Mend the files below.",
            problems=[vars(problem) for problem in report.problems],
        )  # fmt: skip
    _git(target, "init", "--quiet", "--initial-branch=main")
    _git(target, "config", "core.autocrlf", "false")
    _git(target, "add", "--all")
    git = Git(target)
    now = Signature(HARNESS, f"{HARNESS}@{repository}", datetime.now(UTC))
    tree = git.text("write-tree")
    first = git.commit_tree(tree, [], f"Start from the {kit.name} kit\n", now)
    git.update_ref("refs/heads/main", first, None)
    _git(target.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(forge))
    _git(target, "remote", "add", "origin", str(forge))
    _git(target, "push", "--quiet", "origin", "main")
    _git(target, "branch", "--quiet", "--set-upstream-to=origin/main", "main")
    install_hook(forge, sys.executable)
    with ObjectReader(target) as objects:
        root = root_fingerprint(objects, first)
    settings = {"forge": str(forge), "identity": HARNESS, "keys": str(keys), "root": root}
    for name, value in settings.items():
        _git(target, "config", f"modelsmith.{name}", value)

    roles = YAML(typ="safe").load(files[f"{GOVERNANCE}/people.yaml"])["roles"]
    held = {role for person in people for role in person["roles"]}
    return InitResult(
        directory=str(target),
        forge=str(forge),
        kit=kit.name,
        repository=repository,
        clusters=clusters,
        people={person["id"]: tuple(person["roles"]) for person in people},
        unheld_roles=tuple(sorted(set(roles) - held)),
        root=root,
    )


def _person(root: Path, text: str) -> tuple[str, str, str]:
    """Role, person id and key of ``ROLE=KEY.pub``; the id is the key comment's name."""
    role, equals, name = text.partition("=")
    path = (root / name).expanduser()
    if not equals or not role or not path.is_file():
        raise InvalidInput(
            "bad-person", f"--person {text}: expected ROLE=KEY.pub with an existing file", "Name an SSH public key."
        )
    comment = path.read_text(encoding="utf-8", errors="replace").strip().split(" ", 2)[2:]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", comment[0].split("@")[0]).strip("-._") if comment else ""
    return role, name if name and name != role else f"holder-of-{role}", public_key(path)


def _people_block(enrolled: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    people: dict[str, dict[str, Any]] = {}
    for role, name, key in enrolled:
        person = people.setdefault(key, {"id": name, "name": name, "roles": [], "keys": [{"key": key}]})
        if role not in person["roles"]:
            person["roles"].append(role)
    return list(people.values())


def _edit(data: bytes, values: dict[str, Any]) -> bytes:
    """Set top-level values of a YAML file; comments and order survive."""
    yaml = YAML()
    yaml.width = 120
    document = yaml.load(data)
    document.update(values)
    out = io.BytesIO()
    yaml.dump(document, out)
    return out.getvalue()


def _git(folder: Path, *args: str) -> None:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfrastructureFailure(
            "git-failed", f"git {args[0]}: {done.stderr.strip()}", "Check that git works in this folder."
        )
