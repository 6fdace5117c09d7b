"""What `modelsmith doctor` finds about the clusters: stores, models with every byte, judges, baselines and engines."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

from modelsmith.governance.sight import sight
from modelsmith.operations.finding import Finding
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.cluster import LOCAL, Cluster, TrackerName
from modelsmith.schema.errors import InvalidInput, ModelsmithError
from modelsmith.schema.source import BaseModelSource, Endpoint, JudgeModel
from modelsmith.schema.training import Grpo
from modelsmith.substrates.base_models import look
from modelsmith.substrates.endpoint.allowed import SETTING, entries, origin, require_allowed
from modelsmith.substrates.gguf import is_converted
from modelsmith.training.job import QUANTISES
from modelsmith.training.tracking import PLACE_OF_MLFLOW


def cluster_findings(workspace: Workspace, main: GovernedState) -> Iterator[Finding]:
    """Everything that the clusters on main need of this machine; no server is asked, and nothing is fetched."""
    allowed = entries(workspace.settings(SETTING), os.environ)
    subjects: set[str] = set()
    for path in sorted(p for p in main.tree.paths("clusters") if p.endswith("/cluster.yaml")):
        cluster = load_cluster(main.tree, path.split("/")[1])
        judge = load_eval_set(main.tree, cluster.eval_set).evalset.judge
        yield _store(workspace, cluster)
        yield from _vllm(cluster)
        if window := sight(cluster.rollback, cluster.deployment.traffic_share):
            yield Finding(
                subject=f"window of {cluster.cluster}",
                level="ok" if window.confirms else "note",
                sentence=window.sentence,
            )
        if any(stage.load_in_4bit for stage in cluster.stages):
            yield _quantising(f"training of {cluster.cluster}")
        if cluster.tracking:
            yield _tracker(f"tracker of {cluster.cluster}", cluster.tracking.to)
        for subject, source in _models(cluster, judge):
            if subject not in subjects:
                subjects.add(subject)
                yield from _model(workspace, subject, source)
        for subject, endpoint in _endpoints(cluster, judge):
            if subject not in subjects:
                subjects.add(subject)
                yield _endpoint(subject, endpoint, allowed)
    if main.policy.embedding:
        yield from _unfetched(workspace, f"embedding model {main.policy.embedding.name}", main.policy.embedding.source)
    if main.policy.private.names:
        yield from _unfetched(
            workspace, f"model {main.policy.private.names.name} of names", main.policy.private.names.source
        )


def _unfetched(workspace: Workspace, subject: str, source: BaseModelSource) -> Iterator[Finding]:
    """A model that policy names: as a base model, but that nothing is ever fetched for it."""
    for finding in _model(workspace, subject, source):
        absent = "not on this machine, and the toolkit does not download it"
        mend = "Fetch it by hand, or name another in policy.yaml."
        missing = finding.level == "note"
        yield finding.model_copy(update={"level": "bad", "sentence": absent, "mend": mend}) if missing else finding


def _models(cluster: Cluster, judge: JudgeModel | None) -> Iterator[tuple[str, BaseModelSource]]:
    yield f"model {cluster.base_model.name}", cluster.base_model
    if judge and judge.base_model:
        yield f"model of the judge {judge.name}", judge.base_model


def _endpoints(cluster: Cluster, judge: JudgeModel | None) -> Iterator[tuple[str, Endpoint]]:
    for baseline in cluster.baselines:
        yield f"endpoint of {baseline.name}", baseline.endpoint
    if judge and judge.endpoint:
        yield f"endpoint of the judge {judge.name}", judge.endpoint


def _store(workspace: Workspace, cluster: Cluster) -> Finding:
    subject, store = f"store of {cluster.cluster}", workspace.store(cluster.store)
    place = next(folder for folder in (store, *store.parents) if os.access(folder, os.F_OK))
    if os.access(place, os.W_OK):
        return Finding(subject=subject, level="ok", sentence=str(store))
    return Finding(subject=subject, level="bad", sentence=f"{store} is not writable", mend="Mend its permissions.")


def _quantising(subject: str) -> Finding:
    """Whether the library is here that holds a base model in 4 bits; whether the machine can, training finds out."""
    if importlib.util.find_spec(QUANTISES) is None:
        sentence = f"load_in_4bit needs {QUANTISES}, which is not installed"
        return Finding(subject=subject, level="bad", sentence=sentence, mend="pip install 'modelsmith[qlora]'")
    return Finding(subject=subject, level="ok", sentence=f"{QUANTISES} is here for load_in_4bit")


def _tracker(subject: str, name: TrackerName) -> Finding:
    """Whether its library is here and knows where the tracker is; nobody is asked. Training goes on without it."""
    if importlib.util.find_spec(name) is None:
        mend = f"pip install 'modelsmith[{name}]'"
        return Finding(subject=subject, level="note", sentence=f"{name} is not installed; it gets nothing", mend=mend)
    if name == "mlflow" and not os.environ.get(PLACE_OF_MLFLOW):
        sentence = f"{PLACE_OF_MLFLOW} names no place; it gets nothing"
        return Finding(subject=subject, level="note", sentence=sentence, mend="Set it before a training.")
    return Finding(subject=subject, level="ok", sentence=f"{name} gets the figures of trainings")


def _vllm(cluster: Cluster) -> Iterator[Finding]:
    """Whether vLLM is here, for each purpose that the cluster says it is for."""
    from modelsmith.substrates.vllm.environment import find_python

    asks = any(isinstance(stage, Grpo) and stage.sampler == "vllm" for stage in cluster.stages)
    sampled = asks and LOCAL in cluster.hosts  # of other hosts nothing is known here
    for role, used in (("engine", cluster.engine == "vllm"), ("sampler", sampled)):
        subject = f"{role} of {cluster.cluster}"
        try:
            if used:
                yield Finding(subject=subject, level="ok", sentence=f"vLLM, by {find_python()}")
        except ModelsmithError as error:
            yield Finding(subject=subject, level="bad", sentence=error.message, mend=error.mend)


def _model(workspace: Workspace, subject: str, source: BaseModelSource) -> Iterator[Finding]:
    """The weights as they lie here, and their converted copy where there is one."""
    try:
        folder = look(source, workspace.root)
    except ModelsmithError as error:
        yield Finding(subject=subject, level="bad", sentence=error.message, mend=error.mend)
        return
    copy = workspace.models / source.digest.removeprefix("sha256:")
    if folder is None:
        yield Finding(subject=subject, level="note", sentence="not on this machine; it is fetched at first use")
    elif folder.is_dir():
        yield Finding(subject=subject, level="ok", sentence="at hand, every byte")
    elif not copy.is_dir():
        yield Finding(subject=subject, level="ok", sentence="at hand, every byte; converted at first use")
    elif is_converted(copy):
        yield Finding(subject=subject, level="ok", sentence="at hand and converted, every byte of both")
    else:
        yield Finding(
            subject=subject, level="bad",
            sentence="its converted copy is not what was converted: a file changed, is missing or new",
            mend=f"Remove {copy}; the next eval converts it again.",
        )  # fmt: skip


def _endpoint(subject: str, endpoint: Endpoint, allowed: frozenset[tuple[str, str | None]]) -> Finding:
    """Whether this machine allows the server, has its key and can speak to it; nobody is asked."""
    try:
        require_allowed(endpoint, allowed)
    except InvalidInput as error:
        return Finding(subject=subject, level="note", sentence=error.message, mend=error.mend)
    where = f"{origin(endpoint.url)}, allowed on this machine"
    if importlib.util.find_spec("aiohttp") is None:
        mend = "pip install 'modelsmith[endpoint]'"
        return Finding(subject=subject, level="bad", sentence=f"{where}, but aiohttp is not installed", mend=mend)
    if endpoint.key_env is None:
        return Finding(subject=subject, level="ok", sentence=f"{where}; no key")
    if not os.environ.get(endpoint.key_env, "").strip():
        mend = f"Put the key into {endpoint.key_env} before an eval asks it."
        return Finding(subject=subject, level="note", sentence=f"{where}; {endpoint.key_env} holds no key", mend=mend)
    return Finding(subject=subject, level="ok", sentence=f"{where}, with the key in {endpoint.key_env}")
