"""Receivers of webhooks, good ones and others, on real sockets of this machine."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook


class Receiver:
    """Listens, keeps what it is sent, and answers as ``answers`` say, then always as the last of them."""

    def __init__(self, *answers, host="127.0.0.1", port=0, behave=None):
        self.heard = []
        """(headers, body) of each request."""
        self._answers = list(answers or (200,))
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # an answer is written in two parts, and the second would wait 40 ms

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.heard.append((dict(self.headers), body))
                if behave:
                    with suppress(OSError):
                        behave(self)
                    self.close_connection = True
                    return
                status = receiver._answers.pop(0) if len(receiver._answers) > 1 else receiver._answers[0]
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *words):
                pass

        self._server = Server((host, port), Handler)
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def ids(self):
        """Of what it was sent, in order."""
        return [{name.lower(): value for name, value in headers.items()}["webhook-id"] for headers, _ in self.heard]

    def verified(self, secret):
        """What it was sent, as the library reads it; a signature that does not hold is an error."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.heard]

    def close(self):
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def hangs(request):
    """Takes the request and says nothing."""
    time.sleep(5)


def trickles(request):
    """Answers a byte at a time, for ever."""
    for _ in range(100):
        request.wfile.write(b"H")
        request.wfile.flush()
        time.sleep(0.05)


def babbles(request):
    """Answers 200 and then without end."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4000000000000000\r\n\r\n")
    block = b"x" * 65536
    while True:
        request.wfile.write(block)


def garbles(request):
    """Answers no HTTP."""
    request.wfile.write(b"\x00\xff not HTTP \r\n\r\n" * 100)


def shows_off(request):
    """Answers with headers that never end."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        request.wfile.write(b"x-%d: %s\r\n" % (number, b"y" * 1000))


def asks_for_time(request):
    """Is busy, and says for how long as servers write it."""
    request.wfile.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 3000\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def redirects_to(url, status):
    """Sends whoever asks elsewhere."""

    def behave(request):
        request.wfile.write(
            f"HTTP/1.1 {status} Elsewhere\r\nlocation: {url}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        )

    return behave
