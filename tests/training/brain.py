"""What a vLLM server computes, by transformers in this process; ``substrates/fake_vllm.py`` is the server before it.

It really loads what it is told to load, and really answers with it, as far as its ``faults`` let it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


class Brain:
    """Answers ``/v1/completions`` and loads and forgets adapters, at ``address``."""

    def __init__(self, model: Path, notes: Path) -> None:
        self._model, self._notes, self._lock = model, notes, threading.Lock()
        self.adapters: dict[str, Any] = {}
        self.loaded: list[str] = []
        self.asked = 0
        self.faults: set[str] = set()
        """``refuses``; ``stale`` (the first adapter goes on answering), ``base`` (none does), ``other-tokens``."""
        self.dies_at: int | None = None
        """The server before it is killed at this request for answers, once."""
        self.silent_at: int | None = None
        """No reply comes to this request for answers until ``speak`` is set; ``silent`` says that it came."""
        self.silent, self.speak = threading.Event(), threading.Event()
        brain = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *words: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with brain._lock:
                    status, document = brain.answer(self.path.rpartition("/")[2], body)
                data = json.dumps(document).encode()
                with contextlib.suppress(BrokenPipeError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, verb: str, body: dict[str, Any]) -> tuple[int, Any]:
        if verb == "load_lora_adapter":
            return self._load(body["lora_name"], Path(body["lora_path"]))
        if verb == "unload_lora_adapter":
            del self.adapters[body["lora_name"]]
            return 200, {}
        self.asked += 1
        if self.asked == self.dies_at:
            os.kill(int((self._notes / "processes").read_text().split()[0]), signal.SIGKILL)
            self.adapters, self.loaded = {}, []
            return 503, {}
        if self.asked == self.silent_at:
            self.silent.set()
            self.speak.wait(60)
        if body["model"] not in self.adapters:
            return 404, {"error": {"message": "no such model"}}
        model = self.adapters[body["model"]]
        return 200, {"choices": [self._choice(model, body, number) for number in range(body["n"])]}

    def _load(self, name: str, folder: Path) -> tuple[int, Any]:
        if "refuses" in self.faults:
            return 400, {"error": {"message": f"LoRA of {folder} is of a kind that is not served"}}
        assert name not in self.loaded
        base = AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.float32)
        first = next(iter(self.adapters.values()), None)
        if "base" in self.faults:
            self.adapters[name] = base.eval()
        elif "stale" in self.faults and first is not None:
            self.adapters[name] = first
        else:
            self.adapters[name] = PeftModel.from_pretrained(base, folder).eval()
        self.loaded.append(name)
        return 200, {}

    def _choice(self, model: Any, body: dict[str, Any], number: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(body["seed"] + number)
        ids, messages, log_probs = list(body["prompt"]), [], []
        while len(messages) < body["max_tokens"]:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids + messages])).logits[0, -1]
            chances = torch.softmax(logits / (body["temperature"] or 1.0), dim=-1)
            drawn = torch.multinomial(chances, 1, generator=generator) if body["temperature"] else chances.argmax()
            messages.append(int(drawn))
            log_probs.append(float(logits.log_softmax(dim=-1)[messages[-1]]))
            if messages[-1] in body["stop_token_ids"]:
                break
        ended = messages[-1] in body["stop_token_ids"]
        if "other-tokens" in self.faults and len(messages) > 1:
            messages[0] = next(token for token in range(3, 256) if token != messages[0])
        return {
            "index": number,
            "token_ids": messages,
            "logprobs": {"token_logprobs": log_probs},
            "finish_reason": "stop" if ended else "length",
        }
