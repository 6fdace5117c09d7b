"""``modelsmith validate``: every mistake in every governed file, at once."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.diagnosis.dry_run import Clear, DryRun, dry_run
from modelsmith.diagnosis.firewall import most_alike
from modelsmith.diagnosis.generate import rows_within
from modelsmith.loop.embedding import policy_in
from modelsmith.operations.contract import ARGUMENT, Request, Result
from modelsmith.operations.near_copies import near_copies
from modelsmith.operations.runbook_check import FOLDER, find_runbook_problems
from modelsmith.repository.agent_contract import contract_problem
from modelsmith.repository.budgets import work_tree_problems
from modelsmith.repository.document import Location, Problem, nearest_mend
from modelsmith.repository.forbidden import reserved, unportable
from modelsmith.repository.kept_facts import KeptFacts, this_toolkit
from modelsmith.repository.load import governed_set, load_cluster
from modelsmith.repository.paths import inside
from modelsmith.repository.runnable import placed
from modelsmith.repository.secrets import name_problems, secret_problems
from modelsmith.repository.set_files import Apart
from modelsmith.repository.tree import WorkTree
from modelsmith.repository.validate import Report, validate
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yaml_reader import read_yaml
from modelsmith.repository.yamlfile import find_json_problems, sort_key
from modelsmith.schema.base import Frozen
from modelsmith.schema.canonical import sha256
from modelsmith.schema.catalog import CLUSTER_DEFAULTS, POLICY
from modelsmith.schema.cluster import Cluster
from modelsmith.schema.errors import Exit, InvalidInput
from modelsmith.schema.governance import Policy
from modelsmith.schema.governed_set import GovernedSet
from modelsmith.schema.runbook import Runbook
from modelsmith.schema.training import Grpo, Settings, Sft
from modelsmith.training.judging import require_judge, require_rows_judge


class ValidateRequest(Request):
    """Names file, line, field and mend for every mistake; with PATHs, only what lies below them.

    It also says how near the nearest held-out and core texts are to each other, and tries for each cluster which rows
    its generators could train on: those of a generator that the firewall would drop altogether are a mistake.
    """

    paths: Annotated[tuple[Path, ...], Field(description="Files or folders; all when none is given."), ARGUMENT] = ()


class ProblemView(Frozen):
    """One mistake of the repository, with its place and mend."""

    file: str
    line: int | None
    field: str
    message: str
    mend: str


class Nearest(Frozen):
    """The nearest pair of two groups of texts that must stay apart."""

    similarity: float
    limit: float
    first: str
    second: str


class Firewall(Frozen):
    """Forecast for the rows that generators make for one cluster."""

    rows: int
    """Rows that were tried."""
    dropped: int
    """Of these, rows that are too near to a scored text."""
    nearest: float
    """Similarity of the nearest pair of a row that stays and a scored text."""
    limit: float
    losses: tuple[str, ...]
    """Generators that lose rows, and to what, whoever loses most first."""
    not_checked: str | None
    """What a training will drop rows by besides, and was not tried here, in a sentence; None for nothing."""


class ValidateResult(Result):
    """Files that were checked, and their problems."""

    valid: bool
    files: int
    kinds: dict[str, int]
    problems: tuple[ProblemView, ...]
    """Problems that are refused, here and by the gate."""
    warnings: tuple[ProblemView, ...]
    """What is only odd: it may be meant so, and nothing is refused for it."""
    nearest: dict[str, Nearest]
    """By eval set."""
    firewall: dict[str, Firewall]
    """By cluster, where its eval set has generators and no mistake."""

    @override
    def exit_code(self) -> Exit:
        return Exit.DONE if self.valid else Exit.INVALID


def run(workspace: Workspace, request: ValidateRequest) -> ValidateResult:
    """Check the work tree as it is on disk, and that git tracks nothing that no commit may hold."""
    facts = KeptFacts(workspace.home, f"what validate found sound, 2, {this_toolkit()}", str(workspace.root))
    paths = tuple(inside(workspace.root, path) for path in request.paths)
    apart = _apart(workspace.files, facts)
    report = validate(workspace.files, paths, apart)
    for files in report.sets.values():
        if files.apart and files.apart != apart.get(files.folder):
            facts.add(f"apart {files.folder}", files.apart)
    tracked = workspace.git.run("ls-files", "-z").decode("utf-8", "replace").split("\0")
    large = work_tree_problems(workspace.git, workspace.files, report.paths)
    secrets = [*name_problems(report.paths), *secret_problems(workspace.files, report.paths)]
    without_firewall = [*report.problems, *large, *secrets, *_runbooks(workspace.files, report, facts)]
    firewall, lost = _firewall(workspace.files, report, frozenset(problem.file for problem in without_firewall), facts)
    facts.save()
    names = [*reserved(tracked[:-1]), *unportable({*tracked[:-1], *report.paths})]
    contract = contract_problem(workspace.files)
    if contract and (not request.paths or contract.file in map(str, request.paths)):
        without_firewall.append(contract)
    problems = (*names, *sorted([*without_firewall, *lost], key=sort_key))
    near = [odd for files in report.sets.values() for odd in near_copies(files) if odd.file in set(report.paths)]
    return ValidateResult(
        valid=not problems,
        files=report.files,
        kinds=report.kinds,
        problems=tuple(ProblemView(**vars(problem)) for problem in problems),
        warnings=tuple(ProblemView(**vars(odd)) for odd in sorted([*report.warnings, *near], key=sort_key)),
        nearest={name: Nearest(**vars(pair)) for name, pair in report.nearest.items()},
        firewall=firewall,
    )


def _apart(files: WorkTree, facts: KeptFacts) -> dict[str, Apart]:
    """Remembered eval sets whose held-out texts stood apart, by their folders."""
    folders = {path.rpartition("/")[0] for path in files.paths("evals") if path.endswith("/evalset.yaml")}
    entries = ((folder, facts.get(f"apart {folder}")) for folder in folders)
    return {folder: Apart(tuple(values[0]), tuple(values[1]), tuple(values[2])) for folder, values in entries if values}


def _runbooks(files: WorkTree, report: Report, facts: KeptFacts) -> Iterator[Problem]:
    """What would keep a runbook that can be read from running: steps that do not fit the operations that they call.

    One that was sound under this very toolkit is sound: to find out, every operation that it calls has to be loaded.
    """
    broken = {problem.file for problem in report.problems}
    for path in report.paths:
        if path.startswith(f"{FOLDER}/") and path not in broken:
            data = files.read(path)
            this = f"{path} {sha256(data)}"
            if facts.get(this):
                continue
            runbook, _ = find_json_problems(path, data, Runbook)
            assert runbook is not None
            problems = [*find_runbook_problems(path, runbook)]
            if not problems:
                facts.add(this, True)
            yield from problems


def _firewall(
    files: WorkTree, report: Report, broken: Set[str], facts: KeptFacts
) -> tuple[dict[str, Firewall], tuple[Problem, ...]]:
    """Dry runs by cluster, of eval sets that were checked and where nothing else is wrong; and what is wrong then."""
    firewalls: dict[str, Firewall] = {}
    problems: dict[Problem, None] = {}
    policy = None if POLICY in broken else _policy(files)
    untried = _untried(policy)
    for name, cluster, governed in _trainable(files, report, broken):
        stated = [*_unrewarding(cluster, governed), *_sourceless(cluster, governed), *_choiceless(cluster, governed)]
        if stated:
            paths = [path for path in (f"clusters/{name}/cluster.yaml", CLUSTER_DEFAULTS) if files.exists(path)]
            documents = [read_yaml(path, files.read(path)) for path in paths]
            problems |= dict.fromkeys(placed(documents, *item) for item in stated)
        generators = f"{governed.folder}/generators"
        try:
            longest = max(cluster.stages, key=lambda stage: stage.rows)
            tried = _tried(governed, longest, report.evals, facts, policy)
        except InvalidInput as error:
            file = f"{generators}/{error.details['generator']}.yaml"
            problems[Problem(file, None, "templates", *_exhausted(name, cluster, governed, error))] = None
            continue
        firewalls[name] = _view(tried, most_alike(governed, policy), untried)
        problems |= dict.fromkeys(_lost(tried, generators))
    return firewalls, tuple(problems)


def _tried(governed: GovernedSet, stage: Settings, evals: str, facts: KeptFacts, policy: Policy | None) -> DryRun:
    """The dry run, which follows from the eval sets' files, rows and seed.

    One that lost nothing is kept: it is known again while the files are the same, and spares most comparisons after.
    """
    this = f"rows of {governed.folder} {stage.rows} {stage.seed}"
    of, rows, clear = facts.get(this) or ("", 0, None)
    before = Clear(*clear) if clear else None
    if before and of == evals and before.nearest < most_alike(governed, policy):
        return DryRun(rows, 0, before.nearest, (), before)
    tried = dry_run(governed, stage, before, policy)
    if tried.clear:
        facts.add(this, (evals, tried.rows, tried.clear))
    return tried


_Stated = tuple[Location, str, str]
"""What is wrong with a cluster: where it is written, message and mend."""


def _at(cluster: Cluster, number: int, *inner: str | int) -> Location:
    return "training", *([number] if isinstance(cluster.training, tuple) else []), *inner


def _unrewarding(cluster: Cluster, governed: GovernedSet) -> Iterator[_Stated]:
    """A stage that trains by a reward, where the rubric is none without a judge that may be asked for it."""
    for number, stage in enumerate(cluster.stages):
        if not isinstance(stage, Grpo):
            continue
        try:
            require_judge(governed.rubric, governed.evalset.judge, stage, cluster.base_model.digest, stage.rows)
        except InvalidInput as error:
            yield _at(cluster, number), error.message, error.mend


def _choiceless(cluster: Cluster, governed: GovernedSet) -> Iterator[_Stated]:
    """Several seeds to try, where nothing can tell the tries apart."""
    if cluster.loop.seeds == 1:
        return
    from modelsmith.loop.setting_apart import require_choosable  # brings all that trains; most ask for one seed

    try:
        require_choosable(governed, cluster, cluster.stages[0].rows)
    except InvalidInput as error:
        yield ("loop", "seeds"), error.message, error.mend


def _sourceless(cluster: Cluster, governed: GovernedSet) -> Iterator[_Stated]:
    """A stage that could have no rows: a data set that is not there, or a judge that may not be asked about them."""
    ids, base = {dataset.id for dataset in governed.datasets}, cluster.base_model.digest
    for number, stage in enumerate(cluster.stages):
        try:
            require_rows_judge(governed.rubric, governed.evalset.judge, stage, base)
        except InvalidInput as error:
            yield _at(cluster, number), error.message, error.mend
        if isinstance(stage, Sft) and stage.sources and stage.sources.datasets:
            for place, dataset in enumerate(stage.sources.datasets.names):
                if dataset not in ids:
                    at = _at(cluster, number, "sources", "datasets", "names", place)
                    yield at, f"the eval set has no data set '{dataset}'", nearest_mend(dataset, ids)


def _exhausted(name: str, cluster: Cluster, governed: GovernedSet, error: InvalidInput) -> tuple[str, str]:
    """What is wrong and its mend, where a generator cannot make what `training.rows` can ask of it."""
    if error.code != "generator-exhausted":
        return f"for the cluster {name}: {error.message}", error.mend
    possible, needed = error.details["possible"], error.details["asked"]
    fewer = rows_within(possible, len(governed.generators))
    rows = max(stage.rows for stage in cluster.stages)
    return (
        f"these patterns make {possible} different rows; of `training.rows: {rows}` of the cluster {name} "
        f"up to {needed} are asked of one generator, when its capability fails most",
        f"Add templates or slot values, or write `rows: {fewer}` (training) in clusters/{name}/cluster.yaml.",
    )


def _trainable(files: WorkTree, report: Report, broken: Set[str]) -> Iterator[tuple[str, Cluster, GovernedSet]]:
    """Each cluster whose eval set was checked, has generators, and loads."""
    for path in files.paths("clusters"):
        if not path.endswith("/cluster.yaml"):
            continue
        name = path.split("/")[1]
        try:
            cluster = load_cluster(files, name)
            folder = f"evals/{cluster.eval_set}/"
            set_files = report.sets.get(cluster.eval_set)
            if set_files is None or any(file.startswith(folder) for file in broken):
                continue
            governed = governed_set(set_files)
        except InvalidInput:
            continue
        if governed.generators:
            yield name, cluster, governed


def _policy(files: WorkTree) -> Policy | None:
    try:
        return policy_in(files)
    except InvalidInput:
        return None


def _untried(policy: Policy | None) -> str | None:
    """No embedding model is loaded for a dry run: it takes minutes, and the weights need not be on this machine."""
    if not (policy and policy.embedding and policy.firewall and policy.firewall.most_cosine):
        return None
    parts = ", ".join(f"{part} {most:.2f}" for part, most in sorted(policy.firewall.most_cosine.items()))
    return (
        f"nearness in meaning was not tried: a training also drops rows by the embedding model {policy.embedding.name} "
        f"(cosine from {parts})"
    )


def _view(tried: DryRun, limit: float, untried: str | None) -> Firewall:
    sentences = tuple(loss.sentence for loss in tried.losses)
    return Firewall(
        rows=tried.rows,
        dropped=tried.dropped,
        nearest=tried.nearest,
        limit=limit,
        losses=sentences,
        not_checked=untried,
    )


def _lost(tried: DryRun, generators: str) -> Iterator[Problem]:
    """Problems of generators that would lose every row."""
    for loss in tried.losses:
        if loss.dropped == loss.rows:
            file = f"{generators}/{loss.generator}.yaml"
            yield Problem(file, None, "templates", loss.sentence, "Write them in words of their own.")
