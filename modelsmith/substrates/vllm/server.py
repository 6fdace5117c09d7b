"""vLLM as a server that we start, watch and stop. It lives in an environment of its own and is never imported."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelsmith.schema.children import start_apart
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.schema.run import Dtype, EngineFacts
from modelsmith.schema.source import Chat
from modelsmith.substrates.vllm import lifeline
from modelsmith.substrates.vllm.environment import find_python, server_environment, vllm_facts
from modelsmith.substrates.vllm.log import telling_lines
from modelsmith.substrates.vllm.port_owner import is_ours

KEY_ENV = "VLLM_API_KEY"
BASE = "base"
"""Name under which the server knows the model without an adapter."""
START_SECONDS = 600.0
"""Longest time from start to health; a large model is read from disk in this."""
PORT_ATTEMPTS = 3
END_SEEN = 10.0
"""Longest time in seconds from a request that fails since the server dies until its end is seen."""
_STOP_GRACE = 10.0
_LOG_TAIL = 256 * 1024
_MOST_REPLY = 1 << 28
_PLAIN = Chat()
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class VllmServer:
    """One model on a free port of this machine, behind a key that was made for this run.

    Use it as a context, or call `start` and `stop`. It ends when this process ends, however that comes about.

    Args:
        model: Folder of safetensors, tokenizer and chat template.
        log: File that takes the server's output.
        rank: Largest rank of the adapters that will be loaded; None for the bare model.
        dtype: Of the weights and the computation; float32 on a CPU and bfloat16 on a GPU when None.
        sequences: Most sequences in one batch; vLLM's own choice when None.
        longest: Most tokens of a prompt with its answer; what the model allows when None.
        gpu_share: Share of a GPU's memory that the server takes; vLLM's own choice when None.
        chat: How the model is spoken to.

    Raises:
        InfrastructureFailure: ``vllm-missing``.
    """

    def __init__(
        self,
        model: Path,
        log: Path,
        *,
        rank: int | None = None,
        dtype: Dtype | None = None,
        sequences: int | None = None,
        longest: int | None = None,
        gpu_share: float | None = None,
        chat: Chat = _PLAIN,
    ) -> None:
        self._python = find_python()
        self.model, self._log = model, log
        self.facts = vllm_facts(self._python, chat, dtype)
        self.key = secrets.token_urlsafe(32)
        self._options = _options(self.facts, rank, sequences, longest, gpu_share)
        self._loaded: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> VllmServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, progress: Callable[[float], None] = lambda seconds: None) -> None:
        """Start and wait until it is healthy; `progress` gets the seconds waited so far, about once a second.

        Raises:
            InfrastructureFailure: ``vllm-died``, ``vllm-slow`` or ``vllm-port``.
        """
        for _ in range(PORT_ATTEMPTS):
            self._port = free_port()
            self._launch()
            try:
                self._wait_for_health(progress)
                return
            except InfrastructureFailure as error:
                self.stop()
                died_of_it = error.code == "vllm-died" and "address already in use" in self._tail().lower()
                if error.code != "vllm-port" and not died_of_it:
                    raise
            except BaseException:
                self.stop()
                raise
        raise self._port_taken(f"{PORT_ATTEMPTS} times")

    def stop(self) -> None:
        """End the server and every process that it started; calling it again does nothing."""
        if self._process is not None:
            process, self._process = self._process, None
            if process.stdin is not None:
                process.stdin.close()
            process.wait()

    def require_alive(self, patience: float = 0.0) -> None:
        """Say why the server is no longer there, if so.

        Args:
            patience: Seconds for its end to be seen: a request to a server that dies fails before its processes are
                all gone.

        Raises:
            InfrastructureFailure: ``vllm-died``.
        """
        if self._process is None:
            return
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return
        lines = telling_lines(self._tail())
        why = f": {lines[-1]}" if lines else f", with exit status {self._process.returncode}."
        raise InfrastructureFailure(
            "vllm-died",
            f"The vLLM server ended{why}",
            "Read the server's log. When memory ran out, use a smaller model or a larger machine, and run again.",
            status=self._process.returncode,
            lines=list(lines),
            log=str(self._log),
        )

    def load_adapter(self, folder: Path, digest: str) -> str:
        """Load a LoRA adapter into the running server, once; returns the name to ask for.

        The name is the digest's: the server keeps computed prefixes by name, so two adapters never share one.

        Raises:
            InvalidInput: ``adapter-missing`` or ``adapter-refused``.
            InfrastructureFailure: as `ask`.
        """
        if digest in self._loaded:
            return self._loaded[digest]
        adapter_rank(folder)
        name = "adapter-" + digest.removeprefix("sha256:")
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        status, answer = self.ask("/v1/load_lora_adapter", body)
        if status != 200:
            self.require_alive()
            reason = telling_lines(_message(answer)) or ("no reason given",)
            raise InvalidInput(
                "adapter-refused",
                "The vLLM server does not take the adapter.",
                "Check that the adapter was trained on this base model, and that its rank is at most the server's.",
                status=status,
                reason=reason[-1],
                log=str(self._log),
            )
        self._loaded[digest] = name
        return name

    def forget_adapter(self, digest: str) -> None:
        """Let the server forget an adapter that it was given; one that it does not know is forgotten already.

        Raises:
            InfrastructureFailure: as `ask`.
        """
        name = self._loaded.pop(digest, None)
        if name is not None:
            self.ask("/v1/unload_lora_adapter", {"lora_name": name})

    def ask(self, path: str, body: Mapping[str, Any], seconds: float = 120.0) -> tuple[int, bytes]:
        """Status and body of its reply, for which it has so many seconds.

        Raises:
            InfrastructureFailure: ``vllm-died``, or ``vllm-reply`` when none came.
        """
        try:
            reply = self._request("POST", path, body, seconds, _MOST_REPLY)
            self.require_alive()  # else it may be of somebody who took the port then
            return reply
        except (OSError, http.client.HTTPException) as error:
            self.require_alive(END_SEEN)
            raise InfrastructureFailure(
                "vllm-reply",
                f"No reply came from the vLLM server ({type(error).__name__}).",
                "Read the server's log, and run the same command again.",
                log=str(self._log),
            ) from error

    def _port_taken(self, how: str) -> InfrastructureFailure:
        return InfrastructureFailure(
            "vllm-port",
            f"Other programs took the port of the vLLM server {how}.",
            "Run the same command again.",
            log=str(self._log),
        )

    def _launch(self) -> None:
        command = [str(self._python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model)]
        command += ["--served-model-name", BASE, "--host", "127.0.0.1", "--port", str(self._port), *self._options]
        self._loaded = {}
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("wb") as log:
                self._process = start_apart(
                    [sys.executable, "-I", lifeline.__file__, str(_STOP_GRACE), *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._log.parent,
                    env=server_environment(self.facts.device)
                    | {KEY_ENV: self.key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
                )
        except OSError as error:
            raise InfrastructureFailure(
                "vllm-start",
                "The vLLM server could not be started.",
                "Check free disk space and memory.",
                reason=error.strerror,
            ) from error

    def _wait_for_health(self, progress: Callable[[float], None]) -> None:
        begin, last_report = time.monotonic(), -1.0
        while (waited := time.monotonic() - begin) < START_SECONDS:
            self.require_alive()
            ours = is_ours(self._port)
            if ours is False:
                raise self._port_taken("before it did")
            try:
                if ours and self._request("GET", "/health")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            if waited >= last_report + 1.0:
                progress(waited)
                last_report = waited
            time.sleep(min(1.0, 0.05 + waited / 10))  # one with a small model is there at once
        raise InfrastructureFailure(
            "vllm-slow",
            f"The vLLM server was not ready within {START_SECONDS:g} s.",
            "Read the server's log; a large model on a slow disk may need a faster one.",
            log=str(self._log),
        )

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float = 5.0, most: int = _LOG_TAIL
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.read(most)
        finally:
            connection.close()

    def _tail(self) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - _LOG_TAIL))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


def free_port() -> int:
    """A port of this machine that nobody listens on; somebody may take it before we do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def adapter_rank(folder: Path) -> int:
    """Rank of a LoRA adapter on disk.

    Raises:
        InvalidInput: ``adapter-missing`` when the folder holds none.
    """
    try:
        rank = json.loads((folder / "adapter_config.json").read_bytes())["r"]
        if (folder / "adapter_model.safetensors").is_file() and isinstance(rank, int) and rank > 0:
            return rank
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InvalidInput(
        "adapter-missing",
        "The folder holds no LoRA adapter in safetensors.",
        "Restore the artifact from the store, or train again.",
    )


def _options(
    facts: EngineFacts, rank: int | None, sequences: int | None, longest: int | None, gpu_share: float | None
) -> Sequence[str]:
    """Arguments of the server. Its own sampling defaults are off, so that requests mean what they say."""
    options = ["--dtype", facts.dtype, "--generation-config", "vllm", "--disable-uvicorn-access-log"]
    if facts.device == "cpu":
        options.append("--enforce-eager")
    if rank is not None:
        allowed = next((size for size in _RANKS if size >= rank), rank)
        options += ["--enable-lora", "--max-lora-rank", str(allowed)]
    if sequences is not None:
        options += ["--max-num-seqs", str(sequences)]
    if longest is not None:
        options += ["--max-model-len", str(longest)]
    if gpu_share is not None and facts.device == "cuda":
        options += ["--gpu-memory-utilization", str(gpu_share)]
    return options


def _message(answer: bytes) -> str:
    try:
        document = json.loads(answer)
        error = document.get("error", document)
        return "ValueError: " + str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
