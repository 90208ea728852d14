"""A Maven repository on loopback that misbehaves on command."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from infra.local.artifacts import Artifact


@dataclass
class Repository:
    """Files by path; `cut` of the first answers for a path break off half-way."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, str]] = field(default_factory=list)
    ranges: bool = True

    def artifact(self, name: str, content: bytes, part: str = "kafka") -> Artifact:
        """Publish `content`, and pin it."""
        made = Artifact(part, "org.example", name, "1", len(content), hashlib.sha256(content).hexdigest())
        self.files[f"/{made.path}"] = content
        return made


@contextmanager
def repository() -> Iterator[Repository]:
    """Serves until it is left."""
    state = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            rest = content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if state.cut[self.path]:
                state.cut[self.path] -= 1
                rest = rest[: len(rest) // 2]
            self.wfile.write(rest)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    try:
        yield state
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
