"""Faults that a local server cannot have: encryption, and what Retry-After says."""

import ssl
import urllib.error
from email.message import Message

import pytest

from kitsjax.download.faults import DownloadError, Transient, network_faults, read_retry_after
from kitsjax.download.request import KeepHeaders

URL = "https://example.org/a"


def fault(error):
    with pytest.raises((DownloadError, Transient)) as raised, network_faults(URL):
        raise error
    return raised.value


def test_untrusted_certificate_is_told_at_once():
    reason = ssl.SSLCertVerificationError(1, "certificate verify failed")
    reason.verify_message = "self-signed certificate in certificate chain"
    found = fault(urllib.error.URLError(reason))
    assert isinstance(found, DownloadError)
    assert "self-signed" in str(found)
    assert "SSL_CERT_FILE" in str(found)


def test_no_connection_is_no_answer():
    found = fault(urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")))
    assert (str(found), found.answered) == ("no connection (Connection refused)", False)


@pytest.mark.parametrize("error", [TimeoutError("timed out"), ConnectionResetError(104, "reset")])
def test_broken_connection_was_an_answer(error):
    found = fault(error)
    assert isinstance(found, Transient)
    assert found.answered


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_pass(code):
    headers = Message()
    headers["Retry-After"] = "7"
    found = fault(urllib.error.HTTPError(URL, code, "Busy", headers, None))
    assert (str(found), found.wait_s) == (f"the server answers {code} Busy", 7)


def test_redirect_keeps_the_encryption():
    class Request:
        type, full_url = "https", URL

    for to in ("http://example.org/b", "ftp://example.org/b"):
        with pytest.raises(DownloadError, match="which is not encrypted"):
            KeepHeaders().redirect_request(Request, None, 302, "Found", Message(), to)


def test_retry_after_is_seconds_or_a_date():
    assert read_retry_after("120") == 120
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert read_retry_after("Fri, 31 Dec 2999 23:59:59 GMT") > 3e10
    assert [read_retry_after(text) for text in (None, "", "soon", "-5")] == [0, 0, 0, 0]
