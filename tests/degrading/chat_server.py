"""A server that speaks the chat part of OpenAI's protocol over real HTTP; what it answers is up to the test."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], tuple[int, Any]]


def said(text: Any) -> tuple[int, dict[str, Any]]:
    """A completion as the protocol has it."""
    message = {"role": "assistant", "content": text}
    return 200, {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a server, up to /v1, and the requests it has had; their `at once` counts those under way."""
    requests: list[dict[str, Any]] = []
    lock = threading.Lock()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal under_way
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                under_way += 1
                requests.append({**body, "path": self.path, "key": self.headers["Authorization"], "at once": under_way})
            try:
                status, value = (404, {}) if self.path != "/v1/chat/completions" else answer(body)
            finally:
                with lock:
                    under_way -= 1
            data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *what: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", requests
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
