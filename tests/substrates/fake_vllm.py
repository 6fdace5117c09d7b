"""Stands where the Python of a vLLM environment is expected, and acts as its server does in good and bad hours.

What it is to do stands in ``FAKE_VLLM``: ``serve``, ``bad-model``, ``hang``, ``taken N`` (the port is in use at the
first N starts), or ``dies`` (at the first question: nobody listens any more, and a second later its process ends).
``FAKE_BRAIN`` is the address of another that answers what is posted; without it an answer is the model's name and the
question. ``FAKE_VERSION`` is what the environment holds. ``FAKE_FOLDER`` is where it leaves its notes: how often it was
started, the processes it made, and the folder of its temporary files, in which it leaves one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

NOTES = Path(os.environ["FAKE_FOLDER"])
TRACEBACK = """\
(APIServer pid=11) INFO 11-21 20:12:24 [api_utils.py:347] model /srv/models/x
(EngineCore pid=12) ERROR 11-21 20:12:25 [core.py:843] Traceback (most recent call last):
(EngineCore pid=12) ERROR 11-21 20:12:25 [core.py:843]   File "/opt/vllm/core.py", line 1, in load
(EngineCore pid=12) ERROR 11-21 20:12:25 [core.py:843] OSError: no file named model.safetensors found in /srv/models/x
(APIServer pid=11) RuntimeError: Engine core initialization failed. See root cause above.
"""


class Handler(BaseHTTPRequestHandler):
    adapters: set[str] = set()

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        (NOTES / "asked").touch()
        self._answer(200, {})

    def do_POST(self) -> None:
        if os.environ["FAKE_VLLM"] == "dies":
            self._die()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._answer(401, {"error": "Unauthorized"})
        elif "FAKE_BRAIN" in os.environ:
            self._relay(body)
        elif self.path == "/v1/load_lora_adapter":
            self._load(body)
        elif body["model"] != "base" and body["model"] not in self.adapters:
            self._answer(404, {"error": {"message": "no such model", "code": 404}})
        else:
            text = f"{body['model']} says {body['messages'][-1]['content']}"
            choice = {"message": {"content": text}, "finish_reason": "stop"}
            self._answer(200, {"model": body["model"], "choices": [choice], "usage": {}})

    def _die(self) -> None:
        self.server.socket.close()
        self.connection.shutdown(SHUT_RDWR)
        time.sleep(1)
        os._exit(137)

    def _relay(self, body: dict[str, Any]) -> None:
        brain = HTTPConnection(os.environ["FAKE_BRAIN"], timeout=600)
        brain.request("POST", self.path, json.dumps(body))
        answer = brain.getresponse()
        self._answer(answer.status, json.loads(answer.read()))

    def _load(self, body: dict[str, Any]) -> None:
        with (NOTES / "loaded").open("a") as file:
            file.write(body["lora_name"] + "\n")
        rank = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())["r"]
        if rank > 16:
            message = f"LoRA rank {rank} of {body['lora_path']} is greater than max_lora_rank"
            self._answer(400, {"error": {"message": message, "code": 400}})
        else:
            self.adapters.add(body["lora_name"])
            self._answer(200, {})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    if "-c" in sys.argv[1:3]:
        print(os.environ.get("FAKE_VERSION", ",9.9.9,2.0.0+cpu"))
        return
    with (NOTES / "starts").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    mode, _, count = os.environ["FAKE_VLLM"].partition(" ")
    if mode == "bad-model":
        sys.exit(TRACEBACK)
    if mode == "taken" and len((NOTES / "starts").read_text().splitlines()) <= int(count):
        sys.exit("OSError: [Errno 98] Address already in use")
    engine = subprocess.Popen(["sleep", "3600"])
    (NOTES / "processes").write_text(f"{os.getpid()} {engine.pid}\n")
    (NOTES / "temporary").write_text(tempfile.gettempdir())
    Path(tempfile.gettempdir(), "left").touch()
    print("listening", flush=True)
    if mode == "hang":
        time.sleep(3600)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


main()
