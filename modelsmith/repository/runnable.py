"""What a cluster asks for that this version cannot do: a training method, a host. Pure.

It ends every iteration when it comes to training, after an eval. So `validate` and the gate refuse it; loading does
not, since a history may hold what another version could do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsmith.repository.document import Document, Location, Problem, dotted
from modelsmith.schema.cluster import AVAILABLE_HOSTS, Cluster
from modelsmith.schema.training import AVAILABLE_METHODS


def not_runnable(cluster: Cluster, files: Sequence[Document]) -> Iterator[Problem]:
    """Mistakes of a merged cluster, where they stand: in its own file, the first, or in one that lies below."""
    method = cluster.training.method
    if method not in AVAILABLE_METHODS:
        yield _problem(
            files,
            ("training", "method"),
            f"training by {method} cannot run in this version",
            f"Write method: {' or '.join(AVAILABLE_METHODS)}.",
        )
    strange = [(number, host) for number, host in enumerate(cluster.hosts) if host not in AVAILABLE_HOSTS]
    mend = f"Write hosts: [{', '.join(AVAILABLE_HOSTS)}]."
    for number, host in strange:
        yield _problem(files, ("hosts", number), f"this version cannot train on the host '{host}'", mend)
    if not cluster.hosts:
        yield _problem(files, ("hosts",), "there is no host to train on", mend)


def _problem(files: Sequence[Document], at: Location, message: str, mend: str) -> Problem:
    written = next((document for document in files if at in document.values), files[0])
    return Problem(*written.place(at), dotted(at), message, mend)
