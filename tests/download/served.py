"""A local HTTP server whose files fail as they are told, one request after the other."""

import gzip
import hashlib
import socket
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nibabel as nib
import numpy as np

from kitsjax.image.header import kits_affine


def packed_nifti(seed=0, slices=24):
    """The bytes of a .nii.gz of noise, which gzip cannot make smaller than about 190 kB."""
    array = np.random.default_rng(seed).integers(-1000, 3000, (slices, 64, 64)).astype(np.int16)
    image = nib.Nifti1Image(array, kits_affine((3.0, 0.8, 0.8)))
    return gzip.compress(image.to_bytes(), mtime=0)


@dataclass
class File:
    """A file of the server.

    `faults` holds what happens at each of the next requests, in their order; None is a good answer.
    A request is logged by its Range header, or "".
    """

    body: bytes
    tag: str = '"v1"'
    ranges: bool = True
    faults: deque = field(default_factory=deque)
    asked: list = field(default_factory=list)

    @property
    def sha256(self):
        return hashlib.sha256(self.body).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.released = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, path, body, *faults, **kwargs):
        file = self.files[path] = File(body, faults=deque(faults), **kwargs)
        return file

    def handle_error(self, request, client_address):
        """A client that has gone is none of the server's mistakes."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *args):
        pass

    def do_GET(self):
        file = self.server.files.get(self.path)
        if file is None:
            self.answer(404, b"nothing here")
            return
        file.asked.append(self.headers.get("Range", ""))
        fault = file.faults.popleft() if file.faults else None
        if fault is None:
            self.send_file(file)
        else:
            fault(self, file)

    def send_file(self, file, *, cut=None, body=None, size=None):
        """Answer with a file or its range; `cut` ends the connection after so many bytes."""
        body = file.body if body is None else body
        headers = {"ETag": file.tag} if file.tag else {}
        asked = self.headers.get("Range") if file.ranges else None
        status = 200
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), int(last) + 1 if last else len(body)
            if start >= len(body):
                self.answer(416, b"")
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size or len(body)}"
            body, status = body[start:end], 206
            size = None
        self.answer(status, body[:cut], headers, length=size or len(body))

    def answer(self, status, body, headers=(), length=None, kind="application/octet-stream"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length != -1:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def cut(count):
    return lambda handler, file: handler.send_file(file, cut=count)


def status(code, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, file: handler.answer(code, b"busy", named)


def page(kind="text/html; charset=utf-8"):
    text = b"<!DOCTYPE html><html>Please sign in</html>"
    return lambda handler, file: handler.answer(200, text, kind=kind)


def other_bytes(body):
    return lambda handler, file: handler.send_file(file, body=body)


def redirect(to, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, file: handler.answer(302, b"", {"Location": to} | named)


def hang(handler, file):
    handler.server.released.wait(30)


def drop(handler, file):
    handler.close_connection = True


def hang_within(handler, file):
    """Send half of the file and then nothing."""
    handler.answer(200, file.body[: len(file.body) // 2], {"ETag": file.tag}, len(file.body))
    handler.wfile.flush()
    handler.server.released.wait(30)


def other_range(handler, file):
    """Answer a range with the first ten bytes."""
    total = len(file.body)
    headers = {"ETag": file.tag, "Content-Range": f"bytes 0-9/{total}"}
    handler.answer(206, file.body[:10], headers)


def endless(handler, file):
    """Send more than was announced, without a length."""
    handler.answer(200, file.body * 2, {"ETag": file.tag}, length=-1)


@contextmanager
def refuse(address=("127.0.0.1", 0)):
    """Refuse connections at an address, and yield its host and port.

    The socket is bound and does not listen, so that no other test's server takes the port.
    """
    with socket.socket() as refusing:
        refusing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        refusing.bind(address)
        yield "{}:{}".format(*refusing.getsockname())
