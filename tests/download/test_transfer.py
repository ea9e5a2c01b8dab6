"""One file over a server that fails in every way: what arrives is whole, or nothing is there."""

import errno
import hashlib
import os

import nibabel as nib
import numpy as np
import pytest
import served
from nifti_files import refusal
from served import cut, hang, hang_within, other_bytes, other_range, page, redirect, status

from kitsjax.download.client import Client
from kitsjax.download.faults import DownloadError
from kitsjax.download.manifest import Entry
from kitsjax.download.transfer import DiskError, fetch, partial_path

BODY = served.packed_nifti()
HALF = len(BODY) // 2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "case_00000" / "imaging.nii.gz"


def get(client, server, path, **kwargs):
    remote = client.describe(f"{server.url}/a")
    return fetch(client, remote, path, **kwargs)


def assert_whole(path, entry):
    assert path.read_bytes() == BODY
    assert (entry.size, entry.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert nib.load(path).shape == (24, 64, 64)


def test_good_server_is_asked_twice(client, server, path, waits):
    """Once for the first byte, which tells size and version, and once for the file."""
    file = server.add("/a", BODY)
    assert_whole(path, get(client, server, path))
    assert file.asked == ["bytes=0-0", ""]
    assert waits == []


PASSING = {
    "cut": (cut(HALF), ["bytes=0-0", "", f"bytes={HALF}-"], [1]),
    "dropped": (served.drop, ["bytes=0-0", "", ""], [1]),
    "429": (status(429), ["bytes=0-0", "", ""], [1]),
    "429 with seconds": (status(429, Retry_After="17"), ["bytes=0-0", "", ""], [17]),
    "503": (status(503), ["bytes=0-0", "", ""], [1]),
    "503 with a past date": (
        status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), ["bytes=0-0", "", ""], [1],
    ),
    "announces more": (
        lambda handler, file: handler.send_file(file, size=len(BODY) + 9),
        ["bytes=0-0", "", ""], [1],
    ),
    "announces less": (
        lambda handler, file: handler.send_file(file, size=HALF), ["bytes=0-0", "", ""], [1],
    ),
    "damaged": (other_bytes(BODY[:HALF] + bytes(9) + BODY[HALF + 9 :]), ["bytes=0-0", "", ""], []),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_fault_that_passes(name, client, server, path, waits):
    fault, asked, waited = PASSING[name]
    file = server.add("/a", BODY, None, fault)
    assert_whole(path, get(client, server, path))
    assert (file.asked, waits) == (asked, waited)


@pytest.mark.parametrize("name", PASSING)
def test_fault_that_stays(name, client, server, path):
    # A line that breaks after some bytes each time would give the whole file at last.
    fault = cut(0) if name == "cut" else PASSING[name][0]
    server.add("/a", BODY, None, *[fault] * 40)
    with pytest.raises(DownloadError, match="/a: ") as raised:
        get(client, server, path)
    assert "\n" not in str(raised.value)
    assert not path.exists()


def test_waits_double_and_are_bounded(server, path, waits):
    client = Client(tries=10, sleep=waits.append)
    server.add("/a", BODY, None, *[status(503)] * 40)
    with pytest.raises(DownloadError, match="503 Service Unavailable, 10 times in a row"):
        get(client, server, path)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_new_bytes_start_the_count_again(client, server, path, waits):
    """A line that breaks 20 times, but each time after some bytes, still gives the file."""
    file = server.add("/a", BODY, None, *[cut(3000)] * 20)
    assert_whole(path, get(client, server, path))
    assert waits == [1] * 20
    assert file.asked[2:5] == ["bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_cut_without_ranges_starts_again(client, server, path):
    file = server.add("/a", BODY, None, cut(HALF), cut(HALF), ranges=False)
    assert_whole(path, get(client, server, path))
    # Each try asks for the rest; the server ignores it and begins at 0.
    assert file.asked == ["bytes=0-0", "", f"bytes={HALF}-", f"bytes={HALF}-"]


def test_cut_without_ranges_ends(client, server, path):
    """The same half again and again is no progress."""
    server.add("/a", BODY, None, *[cut(HALF)] * 40, ranges=False)
    with pytest.raises(DownloadError, match=f"after {HALF} of {len(BODY)} bytes"):
        get(client, server, path)


def test_another_range_is_not_appended(client, server, path):
    file = server.add("/a", BODY, None, cut(HALF), other_range)
    assert_whole(path, get(client, server, path))
    assert file.asked[-2:] == [f"bytes={HALF}-", ""]


def test_refused_range_starts_again(client, server, path):
    file = server.add("/a", BODY, None, cut(HALF), status(416))
    assert_whole(path, get(client, server, path))
    assert file.asked[-2:] == [f"bytes={HALF}-", ""]


@pytest.mark.parametrize("fault", [hang, hang_within])
def test_hang_ends_at_the_time_limit(fault, server, path, waits):
    client = Client(timeout_s=0.3, sleep=waits.append)
    server.add("/a", BODY, None, fault)
    assert_whole(path, get(client, server, path))
    assert waits == [1]


def test_later_run_goes_on_where_it_ended(client, server, path):
    file = server.add("/a", BODY, None, cut(HALF), *[served.drop] * 4)
    with pytest.raises(DownloadError):
        get(client, server, path)
    assert not path.exists()
    file.faults.clear()
    file.asked.clear()
    counts = []
    assert_whole(path, get(client, server, path, report=counts.append))
    assert file.asked == ["bytes=0-0", f"bytes={HALF}-"]
    assert sum(counts) == len(BODY) - HALF


def test_bytes_of_two_versions_never_meet(client, server, path):
    """The file changes on the server between two runs: the second begins anew."""
    file = server.add("/a", served.packed_nifti(1), None, cut(HALF), *[served.drop] * 4)
    with pytest.raises(DownloadError):
        get(client, server, path)
    file.faults.clear()
    file.body, file.tag = BODY, '"v2"'
    file.asked.clear()
    assert_whole(path, get(client, server, path))
    assert file.asked == ["bytes=0-0", ""]


def test_change_within_a_run_is_told(client, server, path):
    def change(handler, file):
        file.tag = '"v2"'
        handler.send_file(file, cut=10)

    server.add("/a", BODY, None, cut(HALF), change)
    with pytest.raises(DownloadError, match=r'version "v2", and before .* of "v1"'):
        get(client, server, path)


def test_no_version_means_no_resuming(client, server, path):
    file = server.add("/a", BODY, None, cut(HALF), tag="")
    assert_whole(path, get(client, server, path))
    assert file.asked == ["bytes=0-0", "", ""]


def test_more_bytes_than_announced(client, server, path):
    """The answer has no length and sends the file twice."""
    counts = []
    server.add("/a", BODY, None, served.endless)
    assert_whole(path, get(client, server, path, report=counts.append))
    # What came at first was thrown away.
    assert sum(counts) == len(BODY)
    assert min(counts) < 0


@pytest.mark.parametrize("at", [0, 1])
def test_web_page_is_no_file(at, client, server, path, waits):
    """A page in place of the file, as a proxy sends it, is told at once and costs no bytes."""
    server.add("/a", BODY, *[None] * at, page())
    with pytest.raises(DownloadError, match="a web page"):
        get(client, server, path)
    assert waits == []
    assert not path.exists()


def test_web_page_keeps_what_was_there(client, server, path):
    file = server.add("/a", BODY, None, cut(HALF), page())
    with pytest.raises(DownloadError, match="a web page"):
        get(client, server, path)
    assert_whole(path, get(client, server, path))
    assert file.asked[-1] == f"bytes={HALF}-"


def test_web_page_under_another_name(client, server, path):
    """Its own bytes tell it where the header does not."""
    server.add("/a", b"<!DOCTYPE html><html>Please sign in</html>")
    with pytest.raises(DownloadError, match=r"no packed NIfTI \(HTML\)"):
        get(client, server, path)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


NOT_WHOLE = {
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "empty": (b"", "empty"),
    "cut gzip": (BODY[:HALF], "damaged or cut short"),
    "other gzip": (served.gzip.compress(b"text"), "not a readable NIfTI file"),
}


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_file_that_is_no_whole_nifti(name, client, server, path):
    body, reason = NOT_WHOLE[name]
    server.add("/a", body)
    with pytest.raises(DownloadError, match=reason) as raised:
        get(client, server, path)
    assert str(raised.value).startswith(f"{server.url}/a: ")
    assert ".part" not in str(raised.value)
    assert list(path.parent.iterdir()) == []


def linked(server, body=BODY, sha256=None):
    """Publish a file as Hugging Face does: size and sum in the redirect to where it is stored."""
    store = server.add("/store", body, tag='"store"')
    tag = f'"{sha256 or store.sha256}"'
    hop = redirect(f"{server.url}/store", X_Linked_ETag=tag, X_Linked_Size=str(len(body)))
    server.add("/a", b"", *[hop] * 40)
    return store


def test_published_sum_is_checked(client, server, path):
    store = linked(server)
    remote = client.describe(f"{server.url}/a")
    assert (remote.sha256, remote.version) == (store.sha256, store.sha256)
    assert_whole(path, fetch(client, remote, path))


def test_published_sum_that_differs(client, server, path):
    """A whole NIfTI of the right length is refused if its sum is another; it is tried twice."""
    store = linked(server, sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"published one 000000000000\.\.\."):
        get(client, server, path)
    assert store.asked == ["bytes=0-0", "", ""]
    assert list(path.parent.iterdir()) == []


def test_redirected_download_is_resumed(client, server, path):
    store = linked(server)
    store.faults.extend([None, cut(HALF)])
    assert_whole(path, get(client, server, path))
    assert store.asked == ["bytes=0-0", "", f"bytes={HALF}-"]


def test_known_sum_is_checked(client, server, path):
    server.add("/a", BODY)
    entry = get(client, server, path)
    path.unlink()
    assert get(client, server, path, known=entry) == entry
    path.unlink()
    other = Entry(size=entry.size, sha256="f" * 64, url=entry.url)
    with pytest.raises(DownloadError, match=r"not the file that was downloaded before"):
        get(client, server, path, known=other)
    assert not path.exists()


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_refusal_is_told_at_once(code, client, server, path, waits):
    server.add("/a", BODY, status(code))
    with pytest.raises(DownloadError, match=f"answers {code} "):
        get(client, server, path)
    assert waits == []


def test_long_wait_is_left_to_the_user(client, server, path, waits):
    server.add("/a", BODY, status(429, Retry_After="3600"))
    with pytest.raises(DownloadError, match="asks to wait 3600 s"):
        get(client, server, path)
    assert waits == []


def test_host_without_answer_is_given_up(waits):
    """Nobody listens: four tries, and then none for other files of this host."""
    client = Client(sleep=waits.append)
    with served.refuse() as host:
        for _ in range(2):
            with pytest.raises(DownloadError, match=f"^{host}: no connection"):
                client.describe(f"http://{host}/a")
    assert waits == [1, 2, 4]


def test_host_that_has_answered_gets_all_tries(server, waits):
    client = Client(tries=6, sleep=waits.append)
    server.add("/a", BODY)
    client.describe(f"{server.url}/a")
    server.shutdown()
    server.server_close()
    with served.refuse(server.server_address), pytest.raises(DownloadError, match="6 times"):
        client.describe(f"{server.url}/a")
    assert len(waits) == 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_full_disk_is_told_as_such(number, client, server, path, waits):
    """A refusal of the disk is no fault of the network: it is not tried again."""
    server.add("/a", BODY)

    def fill(count):
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskError, match=r"cannot write \(.*; free the disk"):
        get(client, server, path, report=fill)
    assert waits == []


def test_what_is_in_the_way_is_told(client, server, path, waits):
    """It is no fault of the disk, so other files can be written."""
    server.add("/a", BODY)
    remote = client.describe(f"{server.url}/a")
    path.parent.mkdir()
    partial_path(path, remote).mkdir()
    message = refusal(fetch, client, remote, path)
    assert message.endswith("(Is a directory); make its folder writable, or move it away")
    assert waits == []


def test_a_file_that_appears_meanwhile_stays(client, server, path):
    server.add("/a", BODY)

    def put(count):
        path.write_bytes(b"the user's")

    message = refusal(get, client, server, path, report=put)
    assert message == f"{path}: appeared during the download and stays; run it again"
    assert path.read_bytes() == b"the user's"
    assert list(path.parent.iterdir()) == [path]


def test_stopped_client_asks_no_more(client, server):
    file = server.add("/a", BODY)
    client.stop.set()
    with pytest.raises(DownloadError, match="stopped"):
        client.describe(f"{server.url}/a")
    assert file.asked == []


def test_voxels_survive(client, server, path):
    server.add("/a", BODY, None, *[cut(7777)] * 5)
    get(client, server, path)
    expected = np.random.default_rng(0).integers(-1000, 3000, (24, 64, 64))
    np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj), expected)
