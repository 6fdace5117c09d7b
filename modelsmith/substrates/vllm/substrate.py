"""Completions from a vLLM server of our own: the very weights that are pinned, served as they will be in production."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.source import Chat, Endpoint
from modelsmith.substrates.endpoint.substrate import EndpointSubstrate
from modelsmith.substrates.port import Completion, Prompt
from modelsmith.substrates.vllm.guard import control_token_in, names_in_folder
from modelsmith.substrates.vllm.server import BASE, END_SEEN, KEY_ENV, VllmServer, adapter_rank

CONNECTIONS = 256
"""Requests at once; the server makes batches of them and lets the rest wait."""
_TIMEOUT_SECONDS = 1800.0
_ATTEMPTS = 3
_PLAIN = Chat()


class ServedModel:
    """The bare model, or one adapter, of a running server; closing it leaves the server as it is.

    Args:
        server: The running server.
        name: What `VllmServer.load_adapter` returned, or `BASE`.
    """

    facts: EngineFacts

    def __init__(self, server: VllmServer, name: str) -> None:
        self._server = server
        self.facts = server.facts
        chat = server.facts.chat or Chat()
        self._control = names_in_folder(server.model, chat)
        endpoint = Endpoint(
            url=server.url,
            model=name,
            key_env=KEY_ENV,
            max_connections=CONNECTIONS,
            timeout_seconds=_TIMEOUT_SECONDS,
            max_attempts=_ATTEMPTS,
            chat=chat,
        )
        self._endpoint = EndpointSubstrate(endpoint, self.facts, environment={KEY_ENV: server.key})

    def complete(self, prompts: Sequence[Prompt], system: str, sampling: Sampling) -> Iterator[Completion]:
        """Ask the server for each prompt once; one that holds a control token is not sent (see `guard`).

        Raises:
            InfrastructureFailure: ``vllm-died``, with the last words of its log; and see `EndpointSubstrate.complete`.
        """
        asked_prompts = []
        for prompt in prompts:
            if refused := control_token_in(prompt, system, self._control):
                yield Completion(prompt.key, "", "error", 0, 0, 0.0, refused)
            else:
                asked_prompts.append(prompt)
        try:
            for completion in self._endpoint.complete(asked_prompts, system, sampling):
                self._server.require_alive()  # else it may be of somebody who took the port then
                yield completion
        except ModelsmithError as error:
            self._server.require_alive(END_SEEN if error.code == "endpoint-down" else 0.0)
            raise

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()


class VllmSubstrate(ServedModel):
    """A server with one model and, where given, one adapter; the server ends with the substrate.

    Args:
        model: Folder of safetensors, tokenizer and chat template.
        adapter: Folder of the LoRA adapter and its digest.
        log: File that takes the server's output.
        progress: Gets the seconds waited for the server so far.
        chat: How the model is spoken to.

    Raises:
        InvalidInput: ``adapter-missing`` or ``adapter-refused``.
        InfrastructureFailure: ``vllm-missing``, or why the server does not start.
    """

    def __init__(
        self,
        model: Path,
        adapter: tuple[Path, str] | None,
        log: Path,
        progress: Callable[[float], None] = lambda seconds: None,
        chat: Chat = _PLAIN,
    ) -> None:
        rank = adapter_rank(adapter[0]) if adapter else None
        server = VllmServer(model, log, rank=rank, chat=chat)
        server.start(progress)
        try:
            super().__init__(server, server.load_adapter(*adapter) if adapter else BASE)
        except BaseException:
            server.stop()
            raise

    def close(self) -> None:
        """Close the connections and stop the server."""
        super().close()
        self._server.stop()
