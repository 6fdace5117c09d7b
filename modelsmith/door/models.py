"""From a line of main to models that can be asked: loaded into this process or into a vLLM server, or found by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import aiohttp

from modelsmith.door.embedded import EmbeddedModel, Speaker
from modelsmith.door.http_upstream import CONNECT_SECONDS, HttpModel
from modelsmith.door.lines import Line
from modelsmith.door.loading import aside
from modelsmith.door.refusal import Down
from modelsmith.door.settings import Embedded, Server, Settings, key_of
from modelsmith.door.upstream import Model
from modelsmith.governance.routing import BASE
from modelsmith.loop.engines import load_local
from modelsmith.loop.evals import target_of
from modelsmith.promotion.serving import Arm
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.substrates.chat import template_keywords
from modelsmith.substrates.endpoint.client import proxy_of

_LOAD_SECONDS = 120.0


class Models:
    """Makes models by the machine's settings. Belongs to one event loop."""

    def __init__(self, workspace: Workspace, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._workspace = workspace
        self._settings = settings
        self._session = session
        self._engine = ThreadPoolExecutor(1, "embedded")

    async def make(self, line: Line, arm: Arm) -> Model:
        """A model that is ready to answer.

        Raises:
            ModelsmithError: its weights are missing, damaged, or the backend does not take them.
        """
        backend = self._settings.backends.get(line.cluster.cluster, Embedded())
        if isinstance(backend, Embedded):
            load = partial(_load, self._workspace, line, arm, backend.threads)
            return EmbeddedModel(arm.specialist, await aside(load), self._engine, backend.prompt_tokens)
        shared = backend.shadow_url if arm == line.shadow and backend.shadow_url else backend.url
        backend = backend.model_copy(update={"url": backend.urls.get(arm.specialist, shared)})
        name, mend = backend.models.get(arm.specialist), None
        if name is None and backend.engine == "vllm" and arm.specialist != BASE:
            folder = await aside(partial(_adapter, self._workspace, line, arm))
            name = await self._hot_load(backend, line, arm, folder)
            mend = partial(self._load_again, backend, line, arm, folder)
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
            more={"chat_template_kwargs": keywords} if keywords else {},
            omit=backend.omit,
        )

    def close(self) -> None:
        """Let no further answer be computed; what is under way is told to stop by whoever asked."""
        self._engine.shutdown(wait=False, cancel_futures=True)

    async def _load_again(self, server: Server, line: Line, arm: Arm, folder: Path) -> None:
        try:
            await self._hot_load(server, line, arm, folder)
        except InfrastructureFailure:
            raise Down(503, "adapter", again=False) from None

    async def _hot_load(self, server: Server, line: Line, arm: Arm, folder: Path) -> str:
        """Load an adapter into vLLM under its digest's name, so that two never share what is computed for one."""
        assert arm.artifact is not None
        name = f"adapter-{arm.artifact.removeprefix('sha256:')}"
        key = key_of(server)
        timeout = aiohttp.ClientTimeout(total=_LOAD_SECONDS, sock_connect=CONNECT_SECONDS)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        url = f"{server.url.rstrip('/')}/load_lora_adapter"
        try:
            async with self._session.post(
                url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                told = await response.content.read(4096)
                if response.status == 200 or (response.status == 400 and b"already" in told):
                    return name
                status: int | None = response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = None
        raise InfrastructureFailure(
            "adapter-not-loaded",
            f"The backend of {line.cluster.cluster} does not take the adapter of {arm.specialist}",
            "See that vLLM runs with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, takes adapters of its rank, "
            "and can read the artifact store.",
            status=status,
            specialist=arm.specialist,
        )


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
