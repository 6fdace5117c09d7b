"""``modelsmith init``: a promotion repository from a kit, with its local forge and first keys."""

from __future__ import annotations

import io
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from ruamel.yaml import YAML

from modelsmith import __version__
from modelsmith.forges.github.app import find_access
from modelsmith.forges.github.place import is_github, parse_place
from modelsmith.forges.pre_receive import install_hook
from modelsmith.governance.shape import AGENT_CONTRACT
from modelsmith.operations.contract import ARGUMENT, Cli, Request, Result
from modelsmith.operations.init_folders import new_folders, real_place, require_apart, stopped_by_exception
from modelsmith.operations.init_people import HARNESS, enrolled_people
from modelsmith.repository.agent_contract import with_contract
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.kits import STARTS, domains, eval_sets, files_at_github, kit_files, renamed
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.paths import place
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import validate
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.base import SLUG
from modelsmith.schema.catalog import PEOPLE, POLICY
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.governance import People, Policy
from modelsmith.signing.keys import create_signing_key, create_ssh_key
from modelsmith.signing.ssh import public_key

GOVERNANCE = ".github/governance"
GITIGNORE = b".iterate/\n"
README = """\
# Promotion repository ({domain})

Governed files of a domain specialist: `evals/` says what better means, `clusters/` what is trained and who serves,
`promotions/` what was promoted, by whom and on what evidence. Every change is a pull request.

    modelsmith status
    modelsmith {first}
    modelsmith pr list
    modelsmith verify
"""
DOMAIN_README = """\
# {domain}

The eval sets of this field, one folder each; `pending/` holds cases that belong to none yet. `modelsmith new set NAME`
writes the first.
"""
SLUG_MEND = "Write lower-case letters a to z, digits and hyphens."


class InitRequest(Request):
    """Creates DIR as a git repository, a bare repository beside it that acts as its forge, and the harness's keys.

    With --forge github:OWNER/REPO the forge is an empty repository at GitHub, which gets its first commit, and with
    it the workflows that show the gate's answers there.

    A folder of your own is a kit when it holds evals/ and clusters/ as a promotion repository does, another clone
    too; of its people, keys and promotions nothing is taken.

    People are enrolled with the public half of their own SSH key. The harness's keys lie under MODELSMITH_HOME
    (~/.local/share/modelsmith), never in the repository.
    """

    directory: Annotated[Path, Field(description="Folder to create."), ARGUMENT]
    kit: Annotated[str, Field(description=f"What to start from: {STARTS}.")] = "adtech"
    domain: Annotated[
        str | None, Field(description="Your field's name; needed where the kit brings none, or several.")
    ] = None
    forge: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Bare repository to create as the forge (DIR.git when not set), or github:OWNER/REPO.",
        ),
    ] = None
    roles: Annotated[
        tuple[str, ...],
        Field(description="KIT-ROLE=YOURS: call a role of the kit as your team does. Repeat for more."),
        Cli(option="--role"),
    ] = ()
    people: Annotated[
        tuple[str, ...],
        Field(description="ROLE=KEY.pub: enrol the holder of this SSH key. Repeat for more."),
        Cli(option="--person"),
    ] = ()


class InitResult(Result):
    """The new repository: its forge, its kit and its people."""

    directory: str
    forge: str
    kit: str
    domain: str
    repository: str
    clusters: tuple[str, ...]
    sets: tuple[str, ...]
    """Eval sets, as DOMAIN/SET."""
    people: dict[str, tuple[str, ...]]
    """Person and roles."""
    unheld_roles: tuple[str, ...]
    """Roles that nobody holds yet: their gates cannot open."""
    root: str
    """Fingerprint of the governance root, to be pinned by `modelsmith verify --root`; this clone pins it already."""


def run(workspace: Workspace, request: InitRequest) -> InitResult:
    """Make the repository, or leave everything as it was."""
    files = kit_files(request.kit, workspace.root)
    for path, model in ((PEOPLE, People), (POLICY, Policy)):
        parse_yaml(path, files[path], model)
    files = renamed(files, _roles(request.roles, files))
    domain = _domain(request, files)
    enrolled = enrolled_people(workspace.root, request.people, files)
    target = real_place(workspace.root / request.directory)
    start = Start(request.kit, domain, f"{domain}-{uuid.uuid4()}", datetime.now(UTC))
    keys = real_place(workspace.home) / "keys" / start.repository
    if request.forge and is_github(request.forge):
        require_apart(target, None, keys)
        with stopped_by_exception(), new_folders(target, keys):
            return _create_at_github(Places(target, keys), request.forge, start, files, enrolled)
    forge_folder = real_place(place(Path(request.forge), workspace.root)) if request.forge else None
    forge = forge_folder or target.parent / f"{target.name}.git"
    require_apart(target, forge, keys)
    with stopped_by_exception(), new_folders(target, forge, keys):
        return _create(Places(target, keys), forge, start, files, enrolled)


class Places(NamedTuple):
    """The folders that are made."""

    target: Path
    keys: Path


class Start(NamedTuple):
    """The kit, field and identity that a new repository begins with."""

    kit: str
    domain: str
    repository: str
    at: datetime

    @property
    def message(self) -> str:
        """Of the first commit."""
        return f"Start from the {Path(self.kit).name} kit\n"

    @property
    def author(self) -> Ident:
        """Author of the first commit."""
        return Ident(HARNESS, f"{HARNESS}@{self.repository}", self.at)


def _create(
    places: Places, forge: Path, start: Start, files: dict[str, bytes], people: list[dict[str, Any]]
) -> InitResult:
    _write(places, start, files, people)
    first = _commit(Git(places.target), start, files, str(forge))
    _copy_commit(Git(places.target), Git(forge), start, files)
    install_hook(forge, sys.executable)
    return _settle(places, str(forge), start, files, people, first)


def _create_at_github(
    places: Places, forge: str, start: Start, files: dict[str, bytes], people: list[dict[str, Any]]
) -> InitResult:
    """The same with an empty repository at GitHub; what is pushed there is the last step."""
    from modelsmith.forges.github.start import push_first, require_empty

    where, git = parse_place(forge), Git(places.target)
    token = find_access(where, places.target)
    git.init()
    require_empty(where, token, git)
    files |= files_at_github(f"modelsmith=={__version__}")
    _write(places, start, files, people)
    first = _commit(git, start, files, where.url)
    result = _settle(places, forge, start, files, people, first)
    push_first(where, token, git, first)
    return result


def _write(places: Places, start: Start, files: dict[str, bytes], people: list[dict[str, Any]]) -> None:
    """Make the keys, complete the files and write them."""
    target, keys = places
    pem = create_signing_key(keys / "harness.pem")
    create_ssh_key(keys / "harness-ssh", HARNESS)
    clusters = _clusters(files)
    files[f"{GOVERNANCE}/trust/harness.pem"] = pem
    files[POLICY] = _edit(files[POLICY], {"repository": start.repository})
    harness = [{"id": HARNESS, "keys": [{"key": public_key(keys / "harness-ssh.pub")}], "trust": ["harness.pem"]}]
    files[PEOPLE] = _edit(files[PEOPLE], {"people": people, "harness": harness})
    files[".gitignore"] = GITIGNORE
    first = first_step(clusters, eval_sets(files))
    files["README.md"] = README.format(domain=start.domain, first=first).encode()
    if start.domain not in domains(files):
        files[f"evals/{start.domain}/README.md"] = DOMAIN_README.format(domain=start.domain).encode()
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
    files[AGENT_CONTRACT] = with_contract(WorkTree(target))
    (target / AGENT_CONTRACT).write_bytes(files[AGENT_CONTRACT])


def _settle(
    places: Places,
    forge: str,
    start: Start,
    files: Mapping[str, bytes],
    people: Sequence[Mapping[str, Any]],
    first: str,
) -> InitResult:
    """Write the clone's settings, and say what was made."""
    from modelsmith.promotion.root import root_fingerprint

    target, keys = places
    settings = {"forge": forge, "identity": HARNESS, "keys": str(keys)}
    with ObjectReader(target) as objects:
        root = root_fingerprint(objects, first)
    for name, value in (settings | {"root": root}).items():
        objects.run("config", f"modelsmith.{name}", value)

    roles = parse_yaml(PEOPLE, files[PEOPLE], People).roles
    held_roles = {role for person in people for role in person["roles"]}
    return InitResult(
        directory=str(target),
        forge=forge,
        kit=start.kit,
        domain=start.domain,
        repository=start.repository,
        clusters=_clusters(files),
        sets=eval_sets(files),
        people={person["id"]: tuple(person["roles"]) for person in people},
        unheld_roles=tuple(sorted(set(roles) - held_roles)),
        root=root,
    )


def first_step(clusters: Sequence[str], sets: Sequence[str]) -> str:
    """The command that a new repository begins with: it writes what is missing, or trains."""
    if clusters:
        return f"iterate {clusters[0]}"
    return "new cluster NAME" if sets else "new set NAME"


def _clusters(files: Mapping[str, bytes]) -> tuple[str, ...]:
    return tuple(sorted({p.split("/")[1] for p in files if p.startswith("clusters/") and p.count("/") == 2}))


def _domain(request: InitRequest, files: Mapping[str, bytes]) -> str:
    """The field that the repository is for.

    Raises:
        InvalidInput: ``bad-domain``.
    """
    names = domains(files)
    if request.domain is None:
        if len(names) == 1:
            return names[0]
        which = f"brings {', '.join(names)}" if names else "brings no field"
        raise InvalidInput("bad-domain", f"The kit {which}", "Add --domain NAME, your field's name.", domains=names)
    if not re.fullmatch(SLUG, request.domain):
        raise InvalidInput(
            "bad-domain", f"--domain {request.domain}: it becomes a folder's name", f"{SLUG_MEND} For example: triage."
        )
    if names and request.domain not in names:
        raise InvalidInput(
            "bad-domain",
            f"--domain {request.domain}: the kit brings {', '.join(names)}",
            "Leave --domain out, or begin with --kit empty.",
            domains=names,
        )
    return request.domain


def _roles(options: tuple[str, ...], files: Mapping[str, bytes]) -> dict[str, str]:
    """The kit's roles that are called otherwise, from each ``KIT-ROLE=YOURS``.

    Raises:
        InvalidInput: ``bad-role``.
    """
    roles = parse_yaml(PEOPLE, files[PEOPLE], People).roles
    names: dict[str, str] = {}
    for text in options:
        role, _, name = text.partition("=")
        if role not in roles:
            raise InvalidInput(
                "bad-role", f"--role {text}: the kit has no role '{role}'", f"Name one of {', '.join(roles)}."
            )
        if not re.fullmatch(SLUG, name):
            raise InvalidInput("bad-role", f"--role {text}: expected {role}=YOUR-NAME", SLUG_MEND)
        names[role] = name
    new_names = [names.get(role, role) for role in roles]
    if twice := next((name for name in new_names if new_names.count(name) > 1), None):
        raise InvalidInput(
            "bad-role",
            f"Two roles would be called '{twice}'",
            "Give each a name of its own; one person may hold both: repeat --person.",
        )
    return names


def _commit(clone: Git, start: Start, files: Mapping[str, bytes], origin: str) -> str:
    """Make the first commit, and the clone look as if it were cloned from its forge.

    Ignored, filtered or not: what is committed is what was written.
    """
    clone.init()
    for name, value in {
        "core.autocrlf": "false",
        "remote.origin.url": origin,
        "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
        "branch.main.remote": "origin",
        "branch.main.merge": "refs/heads/main",
    }.items():
        clone.run("config", name, value)
    first = clone.commit_files(None, files, start.message, start.author)
    for ref in ("refs/heads/main", "refs/remotes/origin/main"):
        clone.update_ref(ref, first, None)
    clone.run("read-tree", first)
    clone.run("update-index", "-q", "--refresh")
    return first


def _copy_commit(clone: Git, forge: Git, start: Start, files: Mapping[str, bytes]) -> None:
    """Make the bare repository with the same first commit.

    A commit is what its content says, so making it twice spares a push and whatever hooks and settings its way has.
    """
    forge.init("--bare", f"--object-format={clone.text('rev-parse', '--show-object-format')}")
    forge.update_ref("refs/heads/main", forge.commit_files(None, files, start.message, start.author), None)


def _edit(data: bytes, values: dict[str, Any]) -> bytes:
    """Set top-level values of a YAML file; comments and order survive."""
    yaml = YAML()
    yaml.width = 120
    document = yaml.load(data)
    document.update(values)
    out = io.BytesIO()
    yaml.dump(document, out)
    return out.getvalue()
