"""A web server in a thread that breaks off, changes its files and refuses, as it is told."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Plain http, for this server only; Medley's own opener speaks https alone.
PLAIN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Source:
    """files: path -> content. tag: the ETag, "" for none. plan: one step a request, then none.

    A step is None, an HTTP status to refuse with, or ("cut", N): break off after N bytes.
    ranges: "if" honours Range under If-Range, "always" whatever If-Range says, "never" not at all.
    with_length: state the size. asked: the headers of each request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tag: str = '"1"'
    plan: list[int | tuple[str, int] | None] = field(default_factory=list)
    ranges: str = "if"
    with_length: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    source: Source

    def do_GET(self) -> None:
        source = self.source
        source.asked.append(dict(self.headers.items()))
        step = source.plan.pop(0) if source.plan else None
        content = source.files.get(self.path)
        if isinstance(step, int) or content is None:
            self.send_error(step if isinstance(step, int) else 404)
            return
        start = self._start()
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if source.with_length:
            self.send_header("Content-Length", str(len(body)))
        if source.tag:
            self.send_header("ETag", source.tag)
        self.end_headers()
        self.wfile.write(body if step is None else body[: step[1]])

    def _start(self) -> int:
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") == self.source.tag
        if wanted is None or self.source.ranges == "never":
            return 0
        honoured = same or self.source.ranges == "always"
        return int(wanted.removeprefix("bytes=").rstrip("-")) if honoured else 0

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Source]:
    """A server on a free port of this machine, for the time of the block."""
    source = Source()
    handler = type("Handler", (_Handler,), {"source": source})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        source.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield source
        finally:
            server.shutdown()
            thread.join()
