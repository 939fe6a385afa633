"""A folder served over HTTP in this process, with parts of files and with faults on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer(ThreadingHTTPServer):
    """Serves until it is stopped; what it answers may be changed at any time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.ranges = True  # False: whole files, whatever is asked for
        self.faults: dict[str, int] = {}  # what a path holds -> status
        self.before: Callable[[str], None] = lambda path: None  # an answer
        self.paths: list[str] = []  # asked for
        self.down = False

    def stop(self) -> None:
        """Answer nobody any more, on open connections neither."""
        self.down = True
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may hang up."""


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """Serve a folder."""
    server = FileServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if not server.down:
            server.stop()
        thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.before(self.path)
        file = Path(self.translate_path(self.path))
        status = next((s for part, s in self.server.faults.items() if part in self.path), 200)
        if self.server.down:
            self.close_connection = True
        elif status != 200 or not file.is_file():
            self._answer(404 if status == 200 else status, b"")
        else:
            self._send(file.read_bytes())

    def _send(self, whole: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not self.server.ranges:
            self._answer(200, whole)
            return
        first, last = asked.groups()
        start = int(first) if first else max(len(whole) - int(last), 0)
        part = whole[start : int(last) + 1 if first and last else None]
        self._answer(206 if part else 416, part)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
