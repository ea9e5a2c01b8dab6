"""One HTTP request: what the server says about a file, and its bytes from any of them on."""

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any

from kitsjax.download.faults import RANGE_REFUSED, DownloadError, network_faults

PIECE_BYTES = 2**18
"""So many bytes at most are received at a time."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Remote:
    """A file as its server describes it.

    Attributes:
        url: its address.
        size: number of bytes; None if the server does not say.
        sha256: its published SHA-256 in hexadecimal digits; empty if there is none.
        version: what tells this version of the file from another: the sum, else the ETag, else
            the date of the last change; empty if the server says nothing.
    """

    url: str
    size: int | None
    sha256: str
    version: str


@dataclass(frozen=True)
class Answer:
    """A server's answer.

    Attributes:
        remote: the file.
        start: number of the byte with which `pieces` begins.
        pieces: returns the next bytes, none at the end; raises as `network_faults`.
    """

    remote: Remote
    start: int
    pieces: Callable[[], bytes]


@contextmanager
def open_remote(
    url: str, timeout_s: float, start: int = 0, end: int | None = None
) -> Iterator[Answer]:
    """Open a file from a byte on. A server without ranges begins at 0, which `Answer.start` tells.

    Args:
        url: its address.
        timeout_s: longest time without a byte from the server, seconds.
        start: number of the first byte.
        end: number of the last byte; None for all.

    Raises:
        Transient: A fault that may pass; see `network_faults`.
        DownloadError: One that will not, or the server sends a web page.
    """
    hops = KeepHeaders()
    response = _request(url, timeout_s, hops, start, end) or _request(url, timeout_s, hops)
    assert response is not None
    with closing(response):
        if response.headers.get_content_type() == "text/html":
            raise DownloadError(
                f"{url}: the server sends a web page (HTML) in its place; open the address in a "
                "browser: a proxy or a login may stand between"
            )
        first, size = _read_range(response)
        remote = _describe(url, size, [*hops.headers, response.headers])

        def next_piece() -> bytes:
            with network_faults(url):
                return bytes(response.read1(PIECE_BYTES))

        yield Answer(remote, first, next_piece)


def _request(
    url: str, timeout_s: float, hops: "KeepHeaders", start: int = 0, end: int | None = None
) -> Any:
    """Send a request; None if the server refuses the range, or sends another one."""
    ranged = start > 0 or end is not None
    headers = {"User-Agent": "kitsjax", "Accept-Encoding": "identity"}
    if ranged:
        headers["Range"] = f"bytes={start}-{'' if end is None else end}"
    request = urllib.request.Request(url, headers=headers)
    hops.headers.clear()
    with network_faults(url):
        try:
            response = urllib.request.build_opener(hops).open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            if not (ranged and error.code == RANGE_REFUSED):
                raise
            error.close()
            return None
    if response.status == 206 and _read_range(response)[0] != start:
        response.close()
        return None
    return response


class KeepHeaders(urllib.request.HTTPRedirectHandler):
    """Follow redirects and keep their headers, where some places publish size and sum."""

    def __init__(self) -> None:
        self.headers: list[Message] = []

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Follow a redirect; raise DownloadError if it leaves HTTPS."""
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise DownloadError(f"{req.full_url}: redirects to {newurl}, which is not encrypted")
        self.headers.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read_range(response: Any) -> tuple[int, int | None]:
    """Return the number of the first byte that a response holds, -1 if unknown, and the size."""
    if response.status != 206:
        return 0, _to_int(response.headers.get("Content-Length"))
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return (int(found[1]), int(found[2])) if found else (-1, None)


def _describe(url: str, size: int | None, headers: Sequence[Message]) -> Remote:
    """Describe a file by the headers of all answers on the way to it, the last one its own.

    Hugging Face publishes size and SHA-256 as X-Linked-Size and X-Linked-ETag before it redirects
    to where the file is stored.
    """
    linked = [hop for hop in headers if hop.get("X-Linked-ETag")]
    tag = linked[0]["X-Linked-ETag"].strip('"').lower() if linked else ""
    sha256 = tag if _SHA256.fullmatch(tag) else ""
    if sha256:
        size = _to_int(linked[0].get("X-Linked-Size")) or size
    own = headers[-1]
    return Remote(url, size, sha256, sha256 or own.get("ETag") or own.get("Last-Modified") or "")


def _to_int(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
