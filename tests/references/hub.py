"""A web server on this machine that answers as the hubs of weights do."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Hub:
    """What the server holds.

    Args:
        url: its address.
        files: contents by path.
        redirects: target and headers by path, for the paths that redirect.
        visits: paths that were fetched, in order.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    visits: list[str] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Hub]:
    """A running server; paths with ``short`` in them announce more bytes than they send."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.visits.append(self.path)
            if self.path in hub.redirects:
                target, headers = hub.redirects[self.path]
                self.answer(302, b"", {"Location": hub.url + target, **headers})
            elif self.path in hub.files:
                self.answer(200, hub.files[self.path], {"ETag": '"0000"'})
            else:
                self.answer(404, b"", {})

        def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) + (10 if "short" in self.path else 0)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        hub.url = f"http://127.0.0.1:{web.server_address[1]}"
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            web.shutdown()
            thread.join()
