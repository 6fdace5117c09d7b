"""From a line of main to models that can be asked: loaded into this process or into a vLLM server, or found by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import aiohttp

from modelsmith.door.adapters import Adapters, Lease
from modelsmith.door.embedded import EmbeddedModel, Engine, Speaker
from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.lines import Line
from modelsmith.door.loading import aside
from modelsmith.door.refusal import Down
from modelsmith.door.settings import Embedded, Server, Settings, key_of
from modelsmith.door.settings import Price as PriceOfAMillion
from modelsmith.door.upstream import FREE, Model, Price
from modelsmith.governance.routing import BASE
from modelsmith.loop.engines import load_local
from modelsmith.loop.evals import target_of
from modelsmith.promotion.serving import Arm
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.substrates.chat import template_keywords
from modelsmith.substrates.endpoint.client import proxy_of


class Models:
    """Makes models by the machine's settings. Belongs to one event loop."""

    def __init__(self, workspace: Workspace, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._workspace = workspace
        self._settings = settings
        self._session = session
        self._adapters = Adapters(session)
        self._engine = Engine()

    async def make(self, line: Line, arm: Arm) -> Model:
        """A model that is ready to answer.

        Raises:
            ModelsmithError: its weights are missing, damaged, or the backend does not take them.
        """
        backend = self._settings.backends.get(line.cluster.cluster, Embedded())
        if isinstance(backend, Embedded):
            load = partial(_load, self._workspace, line, arm, backend.threads)
            speaker = await aside(load)
            return EmbeddedModel(arm.specialist, speaker, self._engine, backend.prompt_tokens, arm == line.shadow)
        shared = backend.shadow_url if arm == line.shadow and backend.shadow_url else backend.url
        backend = backend.model_copy(update={"url": backend.urls.get(arm.specialist, shared)})
        name, mend = backend.models.get(arm.specialist), None
        if name is None and backend.engine == "vllm" and arm.specialist != BASE:
            lease = await self._lease(backend, line, arm)
            name, mend = lease.place.name, partial(self._load_again, lease)
        if name is None:
            raise InvalidInput(
                "no-served-name",
                f"serve.yaml does not say by which name the backend of {line.cluster.cluster} knows {arm.specialist}",
                f"Add it under backends.{line.cluster.cluster}.models, and start the door again.",
                cluster=line.cluster.cluster,
                specialist=arm.specialist,
            )
        keywords = template_keywords(line.governed.chat) if backend.engine == "vllm" else {}
        return HttpModel(
            session=self._session,
            url=backend.url,
            name=name,
            key=key_of(backend),
            proxy=proxy_of(backend.url),
            mend=mend,
            silence_seconds=self._settings.limits.silence_seconds,
            extra_fields={"chat_template_kwargs": keywords} if keywords else {},
            omit=backend.omit,
            price=_of_a_token(backend.price(arm.specialist)),
        )

    def close(self) -> None:
        """Let no further answer be computed; what is under way is told to stop by whoever asked."""
        self._adapters.close()
        self._engine.close()

    async def _load_again(self, lease: Lease) -> None:
        try:
            await self._adapters.load_again(lease)
        except InfrastructureFailure:
            raise Down(503, "adapter", again=False) from None

    async def _lease(self, server: Server, line: Line, arm: Arm) -> Lease:
        """The adapter, loaded into vLLM for as long as a model holds this."""
        folder = await aside(partial(_adapter, self._workspace, line, arm))
        assert arm.artifact is not None
        try:
            return await self._adapters.lease(server.url, arm.artifact, key_of(server), folder)
        except InfrastructureFailure as error:
            message = f"The backend of {line.cluster.cluster} does not take the adapter of {arm.specialist}"
            raise InfrastructureFailure(
                error.code, message, error.mend, specialist=arm.specialist, **error.details
            ) from None


def _of_a_token(million: PriceOfAMillion | None) -> Price:
    return Price(million.input / 1e6, million.output / 1e6) if million else FREE


def _load(workspace: Workspace, line: Line, arm: Arm, threads: int | None) -> Speaker:
    target = target_of(workspace, line.cluster, arm.specialist, arm.artifact, line.commit)
    return load_local(workspace, target, threads, line.cluster.base_model)


def _adapter(workspace: Workspace, line: Line, arm: Arm) -> Path:
    target = target_of(workspace, line.cluster, arm.specialist, arm.artifact, line.commit)
    if target.adapter is None:
        raise InvalidInput(
            "no-served-name",
            f"{arm.specialist} is an export, which vLLM cannot load beside another model",
            f"Start another vLLM with it, give that one's address under backends.{line.cluster.cluster}.urls and its "
            f"name there under backends.{line.cluster.cluster}.models, and start the door again.",
            cluster=line.cluster.cluster,
            specialist=arm.specialist,
        )
    return target.adapter
