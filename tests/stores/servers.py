"""Servers on loopback: one that speaks S3, one of plain files, one that misbehaves as told."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BUCKET = "bucket"
SECRET = "s3cr3t-Key"


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Moto's server in threads of this process, with one bucket; its URL."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        make = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(make).read()
        yield url
    finally:
        server.stop()


def speaking_s3(url: str) -> dict[str, str]:
    """The environment of who is to use it."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass


class _Ranges(_Handler):
    """Files by ranges too, which Python's own handler does not give."""

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            return super().do_GET()
        data, first = path.read_bytes(), int(asked[1])
        part = data[first : int(asked[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        self.wfile.write(part)
        return None


@contextlib.contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def file_server(folder: Path, *, ranges: bool = True) -> contextlib.AbstractContextManager[str]:
    """A web server of a folder that lists what is in it."""
    kind = _Ranges if ranges else _Handler
    return serving(lambda *given: kind(*given, directory=str(folder)))


Answer = tuple[int, bytes] | None


@contextlib.contextmanager
def between(
    url: str, interfere: Callable[[str, str], Answer], *, pass_on: bool = False
) -> Iterator[str]:
    """A proxy of an S3 server.

    Args:
        url: of the server.
        interfere: method and path of a request -> what is answered in the server's place, None to
            let it through. May raise ConnectionError: then the connection is cut.
        pass_on: whether the server gets a request all the same whose connection is cut.
    """

    class Proxy(_Handler):
        def _any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                answer = interfere(self.command, self.path)
            except ConnectionError:
                if pass_on:
                    with contextlib.suppress(urllib.error.HTTPError):
                        self._forward(data)
                self.close_connection = True
                self.connection.close()
                return
            headers: Any = {"Content-Length": len(answer[1])} if answer else {}
            if answer is None:
                try:
                    answer, headers = self._forward(data)
                except urllib.error.HTTPError as error:
                    answer, headers = (error.code, error.read()), error.headers
            self.send_response(answer[0])
            for name, value in headers.items():
                if name.lower() not in ("connection", "server", "date", "transfer-encoding"):
                    self.send_header(name, str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer[1])

        def _forward(self, data: bytes) -> tuple[tuple[int, bytes], Any]:
            asked = {"Content-Type": "application/octet-stream", **dict(self.headers)}
            request = urllib.request.Request(
                url + self.path, data or None, asked, method=self.command
            )
            with urllib.request.urlopen(request) as reply:
                return (reply.status, reply.read()), reply.headers

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

    with serving(Proxy) as place:
        yield place
