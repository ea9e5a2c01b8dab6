"""Faults of a download: those that may pass, and those that will not.

A cut connection, a hang, and the statuses 429 and 503 may pass: they are a `Transient`, after which
`Client.retry` tries again. A missing file or a web page in its place is a `DownloadError`.
"""

import http.client
import ssl
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from kitsjax.errors import InputError, first_line

RANGE_REFUSED = 416
"""The status with which a server refuses the range of bytes that it was asked for."""

_PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(InputError):
    """A file that cannot be had from an address, as one line: the address, why, what to do."""


class Transient(Exception):
    """A fault that may pass.

    Attributes:
        wait_s: seconds that the server asks to wait; 0 if it does not say.
        gained: whether bytes arrived that had not arrived before.
        answered: whether the server answered at all.
    """

    def __init__(
        self, message: str, wait_s: float = 0.0, gained: bool = False, answered: bool = True
    ) -> None:
        super().__init__(message)
        self.wait_s, self.gained, self.answered = wait_s, gained, answered


@contextmanager
def network_faults(url: str) -> Iterator[None]:
    """Turn an error of the network or the server into a `Transient` or a `DownloadError`."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            said = f"the server answers {error.code} {error.reason}".rstrip()
            if error.code in _PASSING_STATUSES:
                wait_s = read_retry_after(error.headers.get("Retry-After"))
                raise Transient(said, wait_s) from None
        advice = "run it again later; if it stays so, the file has moved"
        raise DownloadError(f"{url}: {said}; {advice}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url}: the server's certificate is not trusted ({error.reason.verify_message}); "
                "set SSL_CERT_FILE if a proxy stands between"
            ) from None
        raise Transient(f"no connection ({first_line(error.reason)})", answered=False) from None
    # The connection itself is there, so the server has answered.
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"the connection broke ({first_line(error)})") from None


def read_retry_after(text: str | None) -> float:
    """Read the header Retry-After, seconds or a date, as seconds from now; 0 if it says nothing."""
    try:
        return max(0.0, float(int(text or 0)))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text or "")
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
