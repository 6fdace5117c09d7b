"""What `modelsmith doctor` finds about hosts: whether each can be reached, what it has, and what clusters miss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modelsmith.fleet.executor import HostLostError
from modelsmith.fleet.remote.connection import Connection
from modelsmith.fleet.remote.facts import HostFacts
from modelsmith.fleet.remote.settings import FILE, Host, load_hosts
from modelsmith.operations.finding import Finding
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import cluster_names, load_cluster
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import LOCAL, Cluster
from modelsmith.schema.errors import ModelsmithError

_AT_ONCE: Final = 16
_MODULE: Final = "modelsmith.training.worker"


def host_findings(workspace: Workspace, main: GovernedState) -> Iterator[Finding]:
    """Each host of this machine's ``hosts.yaml``, which is asked, and each that a cluster on main names without it."""
    try:
        hosts = load_hosts(workspace.home).hosts
    except ModelsmithError as error:
        yield Finding(subject="hosts", level="bad", sentence=error.message, mend=error.mend)
        return
    clusters = [load_cluster(main.tree, name) for name in cluster_names(main.tree)]
    for name in sorted({name for cluster in clusters for name in cluster.hosts} - hosts.keys() - {LOCAL}):
        yield Finding(
            subject=f"host {name}",
            level="note",
            sentence="clusters name it, and this machine does not know it",
            mend=f"Say in {workspace.home / FILE} where it is, if trainings started here should go there.",
        )
    yield from looked_at(hosts, clusters)


def looked_at(hosts: Mapping[str, Host], clusters: list[Cluster]) -> Iterator[Finding]:
    """Findings about each host, all of them asked at once."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for name, facts in zip(hosts, threads.map(_ask, hosts.items()), strict=True):
            if isinstance(facts, Finding):
                yield facts
                continue
            yield Finding(subject=f"host {name}", level="ok" if facts.writable else "bad", sentence=sentence(facts),
                          mend="" if facts.writable else f"Make {hosts[name].folder!a} there writable.")  # fmt: skip
            for model in _missing(name, facts, clusters):
                yield Finding(
                    subject=f"host {name}",
                    level="note",
                    sentence=f"it does not have the base model {model}",
                    mend="A training that needs it says which folder to copy, and where.",
                )
            for cluster in _short_of_gpus(name, facts, clusters):
                yield Finding(
                    subject=f"host {name}",
                    level="note",
                    sentence=f"the cluster {cluster.cluster} trains on {cluster.devices} devices, and it has "
                    f"{len(facts.gpus)}",
                    mend="Write fewer devices into the cluster file, or leave the host out of its hosts.",
                )


def sentence(facts: HostFacts) -> str:
    """A host's facts in one sentence. Pure."""
    gpus = [
        f"{gpu.name} ({'' if gpu.busy is None else f'{gpu.busy} % busy, '}"
        f"{gpu.memory_used_mib} of {gpu.memory_total_mib} MiB)"
        for gpu in facts.gpus
    ]
    has = [
        *gpus,
        *([] if gpus else ["no GPU"]),
        f"{facts.processors} processors",
        f"{facts.free_bytes // 10**9} GB free",
    ]
    now = ["at work on a job"] if facts.busy else []
    wrong = [] if facts.writable else ["its work folder cannot be written"]
    return f"answers, with modelsmith {facts.version}: {', '.join([*has, *now, *wrong])}"


def _ask(pair: tuple[str, Host]) -> HostFacts | Finding:
    name, host = pair
    try:
        connection = Connection(name, host, _MODULE)
        try:
            return connection.facts()
        finally:
            connection.close()
    except HostLostError as error:
        mend = "See that it runs and that this machine has a way to it; trainings take the next host of the cluster."
        return Finding(subject=f"host {name}", level="bad", sentence=f"cannot be reached: {error.why}", mend=mend)
    except ModelsmithError as error:
        reason = f" ({error.details['reason']})" if error.details.get("reason") else ""
        return Finding(subject=f"host {name}", level="bad", sentence=f"{error.message}{reason}", mend=error.mend)


def _missing(name: str, facts: HostFacts, clusters: list[Cluster]) -> list[str]:
    """Names of base models of clusters that name the host, which it does not have."""
    models = {cluster.base_model.digest: cluster.base_model.name for cluster in clusters if name in cluster.hosts}
    return sorted(model for digest, model in models.items() if digest.removeprefix("sha256:") not in facts.models)


def _short_of_gpus(name: str, facts: HostFacts, clusters: list[Cluster]) -> list[Cluster]:
    """Clusters that name the host and train on more GPUs than it has. One without any trains on its processors."""
    return [cluster for cluster in clusters if name in cluster.hosts and 0 < len(facts.gpus) < cluster.devices]
