"""What a cluster asks for that cannot be done, or cannot tell what it is to tell. Pure.

It ends every iteration when it comes to training, after an eval. So `validate` and the gate refuse it; loading does
not, since a history may hold what another version could do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsmith.governance.sight import sight
from modelsmith.repository.document import Document, Location, Problem, dotted
from modelsmith.schema.cluster import LOCAL, Cluster
from modelsmith.schema.evalset import Thresholds
from modelsmith.schema.live import LEAST_SHARE
from modelsmith.schema.training import unfit


def not_runnable(cluster: Cluster, files: Sequence[Document]) -> Iterator[Problem]:
    """Mistakes of a merged cluster, where they stand: in its own file, the first, or in one that lies below."""
    single = not isinstance(cluster.training, tuple)
    for number, stage in enumerate(cluster.stages):
        at: Location = ("training",) if single else ("training", number)
        if stage.lora != cluster.stages[0].lora:
            yield placed(
                files,
                (*at, "lora"),
                "the stages of a training share one adapter, so all have the lora of the first",
                "Copy `lora` from the first stage.",
            )
        reason = unfit(stage, cluster.devices)
        if reason:
            even = [str(number) for number in range(1, 9) if not unfit(stage, number)]
            mend = f"Write devices: {' or '.join(even)}" if len(even) > 1 else "Leave devices out"
            yield placed(files, ("devices",), reason, f"{mend}, or change the stage.")
    if not cluster.hosts:
        mend = f"Name some, such as hosts: [{LOCAL}]: each machine says for itself where others are."
        yield placed(files, ("hosts",), "there is no host to train on", mend)


def odd_gate(cluster: Cluster, files: Sequence[Document], thresholds: Thresholds) -> Iterator[Problem]:
    """A gate of the cluster below its eval set's thresholds, which hold all the same."""
    for name, own, of_set in (
        ("composite", cluster.gate.composite, thresholds.composite),
        ("held_out", cluster.gate.held_out, thresholds.held_out),
    ):
        if own < of_set:
            yield placed(
                files,
                ("gate", name),
                f"{own:g} changes nothing: the eval set's threshold is {of_set:g}, and the stricter of the two holds",
                f"Write {of_set:g} or more, or lower thresholds.{name} in the eval set's evalset.yaml.",
            )


def odd_window(cluster: Cluster, files: Sequence[Document], formats: bool) -> Iterator[Problem]:
    """Advice on a rollback rule whose window is too small to show what it should. The rule is valid all the same.

    The arguments are as in `not_runnable`; ``formats`` is False where its rubric is known to have no points of format.
    """
    rule = cluster.rollback.rule
    if rule and rule.format and not formats:
        yield placed(
            files,
            ("rollback", "rule", "format"),
            "the rubric has no required point that the answer alone decides, so no format is checked and no window is "
            "ever confirmed",
            "Leave `format` out, or add a point whose check is json_schema or regex.",
        )
    if rule and cluster.deployment.traffic_share > 1 - LEAST_SHARE:
        yield placed(
            files,
            ("rollback", "rule"),
            "the specialist gets all requests, so there is no incumbent to compare it with, and nothing is counted",
            "Write a deployment.traffic_share below 1.",
        )
    beside, slow = cluster.beside_serving, rule.slow if rule else None
    if slow and beside and beside.p95_milliseconds and beside.p95_milliseconds > slow.milliseconds:
        yield placed(
            files,
            ("beside_serving", "p95_milliseconds"),
            f"a training would wait only when the door's p95 is beyond {beside.p95_milliseconds:g} ms, and an answer "
            f"beyond {slow.milliseconds:g} ms counts as slow in the window: the training could have a specialist taken "
            "back",
            f"Write {slow.milliseconds:g} or less.",
        )
    estimate = sight(cluster.rollback, cluster.deployment.traffic_share)
    if estimate and not (
        estimate.confirms and estimate.loss is not None and estimate.loss <= 2 * cluster.rollback.max_drop
    ):
        yield placed(
            files,
            ("rollback", "rule"),
            estimate.sentence,
            "Make the window longer, the share larger or max_drop larger.",
        )


def placed(files: Sequence[Document], at: Location, message: str, mend: str) -> Problem:
    """A mistake of a cluster where it is written: in its own file, the first, or in one that lies below."""
    document = next((document for document in files if at in document.values), files[0])
    return Problem(*document.place(at), dotted(at), message, mend)
