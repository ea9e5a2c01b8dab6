"""A data set over a local server: what is there is tested, what is missing is downloaded, once."""

import json
import logging
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import served
from served import cut, page, status

from kitsjax.data.kits import find_cases
from kitsjax.download.catalog import DATA_SETS
from kitsjax.download.client import Client
from kitsjax.download.download import download
from kitsjax.download.manifest import MANIFEST_NAME
from kitsjax.download.transfer import DiskError
from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_volume
from kitsjax.run_lock import lock_folder

CASES = (0, 1, 12)


def publish(server, data_set):
    """Publish three cases at two places, and their labels at a third."""
    for case in CASES:
        for place in "ab":
            server.add(f"/{place}/{case:05d}", served.packed_nifti(case))
        server.add(f"/label/{case:05d}", served.packed_nifti(100 + case))
    return replace(
        data_set,
        imaging=tuple(f"{server.url}/{place}/{{case:05d}}" for place in "ab"),
        label=f"{server.url}/label/{{case:05d}}",
    )


@pytest.fixture
def kits21(server):
    return publish(server, DATA_SETS["kits21"])


def get(output, data_set, client, cases=CASES):
    return download(output, data_set, cases, 3, client)


def forget(server):
    """Clear the log of requests."""
    for file in server.files.values():
        file.asked.clear()


def asked(server):
    return {path for path, file in server.files.items() if file.asked}


def entries(output):
    return json.loads((output / MANIFEST_NAME).read_text())["files"]


def test_folder_is_ready_for_training(tmp_path, server, kits21, client):
    done = get(tmp_path, kits21, client)
    assert (done.new, done.there, done.failures) == (6, 0, {})
    cases = find_cases(tmp_path)
    assert [case.seed for case in cases] == [0, 1, 12]
    voxels = np.random.default_rng(12).integers(-1000, 3000, (24, 64, 64))
    np.testing.assert_array_equal(read_volume(cases[2].image).array, voxels.astype(np.float32))
    assert asked(server) == {f"/{p}/{case:05d}" for p in ("a", "label") for case in CASES}
    # No lock, no unfinished file, nothing but the cases and the list.
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "case_00000", "case_00001", "case_00012", MANIFEST_NAME,
    ]  # fmt: skip


def test_sizes_and_sums_are_kept(tmp_path, server, kits21, client):
    get(tmp_path, kits21, client)
    file = server.files["/a/00012"]
    assert entries(tmp_path)["case_00012/imaging.nii.gz"] == {
        "size": len(file.body), "sha256": file.sha256, "url": f"{server.url}/a/00012",
    }  # fmt: skip
    assert len(entries(tmp_path)) == 6


def test_nothing_is_downloaded_twice(tmp_path, server, kits21, client):
    get(tmp_path, kits21, client)
    before = (tmp_path / MANIFEST_NAME).read_bytes()
    forget(server)
    done = get(tmp_path, kits21, client)
    assert (done.new, done.there) == (0, 6)
    assert asked(server) == set()
    assert (tmp_path / MANIFEST_NAME).read_bytes() == before


def test_only_what_is_missing_is_downloaded(tmp_path, server, kits21, client):
    get(tmp_path, kits21, client, (0,))
    (tmp_path / "case_00000" / "imaging.nii.gz").unlink()
    forget(server)
    done = get(tmp_path, kits21, client, (0, 1))
    assert (done.new, done.there) == (3, 1)
    assert asked(server) == {"/a/00000", "/a/00001", "/label/00001"}


def test_files_of_other_tools_are_taken_in(tmp_path, server, kits21, client):
    """Whole files in any spelling, as the official script or gunzip leaves them."""
    folder = tmp_path / "Case_00000"
    folder.mkdir()
    (folder / "IMAGING.NII.GZ").write_bytes(served.packed_nifti())
    label = served.gzip.decompress(served.packed_nifti(1))
    (folder / "aggregated_MAJ_seg.nii").write_bytes(label)
    done = get(tmp_path, kits21, client, (0,))
    assert (done.new, done.there, asked(server)) == (0, 2, set())
    assert {entry["url"] for entry in entries(tmp_path).values()} == {""}
    assert set(entries(tmp_path)) == {
        "Case_00000/IMAGING.NII.GZ", "Case_00000/aggregated_MAJ_seg.nii",
    }  # fmt: skip


@pytest.mark.parametrize("cut_at", [1000, 0])
def test_damaged_file_of_another_tool(cut_at, tmp_path, kits21, client):
    path = tmp_path / "case_00000" / "imaging.nii.gz"
    path.parent.mkdir()
    path.write_bytes(served.packed_nifti()[:cut_at])
    done = get(tmp_path, kits21, client, (0,))
    (line,) = done.describe_failures()
    assert line.startswith("case_00000/imaging.nii.gz: ")
    assert line.endswith("; move it away to download it again")
    # It is the user's: nothing is written over it.
    assert path.stat().st_size == cut_at
    assert (done.new, done.there) == (1, 0)


@pytest.mark.parametrize("change", ["flip", "cut"])
def test_file_that_has_changed_since(change, tmp_path, kits21, client):
    get(tmp_path, kits21, client, (0,))
    path = tmp_path / "case_00000" / "imaging.nii.gz"
    body = bytearray(path.read_bytes())
    if change == "flip":
        # A byte of the gzip header, which unpacking does not look at.
        body[4] ^= 1
    path.write_bytes(body[: -1 if change == "cut" else None])
    (line,) = get(tmp_path, kits21, client, (0,)).describe_failures()
    assert "has changed since it was downloaded" in line
    path.rename(tmp_path / "away.nii.gz")
    assert get(tmp_path, kits21, client, (0,)).failures == {}


def test_first_sum_holds_from_then_on(tmp_path, server, kits21, client):
    """The server gives another whole file under the same address: it is refused."""
    get(tmp_path, kits21, client, (0,))
    server.files["/label/00000"].body = served.packed_nifti(55)
    (tmp_path / "case_00000" / "aggregated_MAJ_seg.nii.gz").unlink()
    (line,) = get(tmp_path, kits21, client, (0,)).describe_failures()
    assert "is not the file that was downloaded before" in line
    assert not (tmp_path / "case_00000" / "aggregated_MAJ_seg.nii.gz").exists()


@pytest.mark.parametrize("faults", [[status(404)], [None, *[served.drop] * 4], [page()]])
def test_second_place_is_asked(faults, tmp_path, server, kits21, client):
    server.files["/a/00001"].faults.extend(faults)
    assert get(tmp_path, kits21, client).failures == {}
    name = "case_00001/imaging.nii.gz"
    assert entries(tmp_path)[name]["url"] == f"{server.url}/b/00001"
    assert asked(server) & {"/b/00000", "/b/00012"} == set()
    assert [p.name for p in (tmp_path / "case_00001").glob(".*")] == []


def test_one_failure_does_not_end_the_others(tmp_path, server, kits21, client):
    del server.files["/label/00001"]
    done = get(tmp_path, kits21, client)
    assert (done.new, len(done.failures)) == (5, 1)
    (line,) = done.describe_failures()
    assert line.startswith(f"case_00001/aggregated_MAJ_seg.nii.gz: {server.url}/label/00001: ")
    assert "404" in line
    assert "cloning https://github.com/neheller/kits21" in line
    server.add("/label/00001", served.packed_nifti(101))
    assert get(tmp_path, kits21, client).new == 1


def put_file(case):
    case.write_text("x")


def put_dead_link(case):
    case.symlink_to("nowhere")


def put_folder(case):
    (case / "imaging.nii.gz").mkdir(parents=True)


def put_pipe(case):
    case.mkdir()
    os.mkfifo(case / "imaging.nii.gz")


@pytest.mark.parametrize(
    ("put", "failed", "what"),
    [
        (put_file, 2, "is a file"),
        (put_dead_link, 2, "is a link that leads nowhere"),
        (put_folder, 1, "is a folder"),
        (put_pipe, 1, "is not a file"),
    ],
)
def test_what_is_in_the_way_ends_no_other(put, failed, what, tmp_path, kits21, client):
    put(tmp_path / "case_00001")
    before = sorted(tmp_path.rglob("*"))
    done = get(tmp_path, kits21, client)
    (line,) = done.describe_failures()
    assert line.startswith("case_00001/")
    assert f"{what}; move it away" in line
    assert (done.new, [path for path in before if os.path.lexists(path)]) == (6 - failed, before)
    assert list(tmp_path.rglob("*.part")) == []


@pytest.mark.parametrize("mode", [0, 0o400])
def test_unreadable_case_ends_no_other(mode, user_folder, kits21, client):
    (user_folder / "case_00001").mkdir()
    (user_folder / "case_00001").chmod(mode)
    done = get(user_folder, kits21, client)
    lines = sorted(done.describe_failures())
    for line, name in zip(lines, ("aggregated_MAJ_seg", "imaging"), strict=True):
        assert line.startswith(f"case_00001/{name}.nii.gz: ")
        assert "make it readable" in line
    assert done.new == 4


def test_a_case_not_to_be_written_ends_no_other(user_folder, kits21, client):
    (user_folder / "case_00001").mkdir(mode=0o500)
    done = get(user_folder, kits21, client)
    lines = done.describe_failures()
    assert len(lines) == 2
    assert all("(Permission denied); make its folder writable" in line for line in lines)
    assert done.new == 4


def test_unreachable_host_makes_one_line(tmp_path, server, kits21):
    address = server.server_address
    server.shutdown()
    server.server_close()
    client = Client(sleep=lambda seconds: None)
    with served.refuse(address):
        # One thread, so that the others do not try the host meanwhile.
        lines = download(tmp_path, kits21, CASES, 1, client).describe_failures()
    assert len(lines) <= 2
    assert lines[0].startswith("case_00000/imaging.nii.gz and 2 more: 127.0.0.1:")


def test_unforeseen_error_stays_with_its_file(tmp_path, kits21, client, monkeypatch):
    from kitsjax.download import transfer

    whole = transfer.check_whole

    def fail(path):
        if "case_00001" in str(path) and "imaging" in str(path):
            raise ZeroDivisionError("by hand")
        whole(path)

    monkeypatch.setattr(transfer, "check_whole", fail)
    done = get(tmp_path, kits21, client)
    (line,) = done.describe_failures()
    assert line.startswith("case_00001/imaging.nii.gz: ZeroDivisionError: by hand")
    assert done.new == 5


def usage(free):
    return lambda path: SimpleNamespace(free=free)


def test_room_is_checked_ahead(tmp_path, server, kits21, client, monkeypatch):
    """Nothing but the first bytes is asked for if the disk has no room for all."""
    total = sum(len(server.files[f"/{p}/{c:05d}"].body) for p in ("a", "label") for c in CASES)
    monkeypatch.setattr(shutil, "disk_usage", usage(total - 1))
    with pytest.raises(InputError, match=r"0\.\d\d GB are to be downloaded, and .* are free"):
        get(tmp_path, kits21, client)
    assert {r for file in server.files.values() for r in file.asked} == {"bytes=0-0"}
    monkeypatch.setattr(shutil, "disk_usage", usage(total))
    client.stop.clear()
    assert get(tmp_path, kits21, client).new == 6


def test_room_counts_what_is_there_already(tmp_path, server, kits21, client, monkeypatch):
    half = len(server.files["/a/00000"].body) // 2
    for place in "ab":
        server.files[f"/{place}/00000"].faults.extend([None, cut(half), *[served.drop] * 4])
    assert len(get(tmp_path, kits21, client, (0,)).failures) == 1
    monkeypatch.setattr(shutil, "disk_usage", usage(len(server.files["/a/00000"].body) - half))
    server.files["/a/00000"].faults.clear()
    assert get(tmp_path, kits21, client, (0,)).new == 1


def test_full_disk_ends_the_download(tmp_path, kits21, client, monkeypatch):
    """All other files would fail alike, so one line is enough."""
    from kitsjax.download import wanted

    def fail(*args):
        raise DiskError("folder: cannot write (No space left on device)")

    monkeypatch.setattr(wanted, "fetch", fail)
    with pytest.raises(DiskError):
        get(tmp_path, kits21, client)
    assert client.stop.is_set()


def test_folder_of_another_data_set(tmp_path, server, kits21, client):
    get(tmp_path, kits21, client, (0,))
    kits23 = publish(server, DATA_SETS["kits23"])
    with pytest.raises(InputError, match="holds kits21; give --dataset kits21, or"):
        get(tmp_path, kits23, client, (0,))


def test_two_downloads_into_one_folder(tmp_path, kits21, client):
    with lock_folder(tmp_path), pytest.raises(InputError, match="has been writing there"):
        get(tmp_path, kits21, client)


@pytest.mark.parametrize("text", ["{", "[]", '{"data_set": "kits21", "files": {"a": 1}}'])
def test_damaged_list(text, tmp_path, kits21, client):
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(InputError, match=r"downloads\.json: is damaged; move it away"):
        get(tmp_path, kits21, client)


def test_list_of_a_later_version(tmp_path, kits21, client):
    (tmp_path / MANIFEST_NAME).write_text('{"format": 2, "data_set": "kits21", "files": {}}')
    with pytest.raises(InputError, match="format 2, not 1"):
        get(tmp_path, kits21, client)


def test_known_bad_cases_are_told(tmp_path, server, client, caplog):
    kits19 = publish(server, DATA_SETS["kits19"])
    with caplog.at_level(logging.WARNING, "kitsjax"):
        get(tmp_path, kits19, client, (0, 15, 160, 210, 211))
    text = "\n".join(caplog.messages)
    assert "case_00015: KiTS19 published this scan with a second contrast phase" in text
    assert "case_00160: its scan has 252 x 512 x 796 voxels" in text
    assert "case_00210 and 1 more: the labels" in text
    assert "case_00000" not in text


def test_waits_are_told(tmp_path, server, kits21, caplog):
    client = Client(tries=9, sleep=lambda seconds: None)
    server.files["/a/00000"].faults.extend([status(503)] * 5)
    with caplog.at_level(logging.WARNING, "kitsjax"):
        get(tmp_path, kits21, client, (0,))
    assert [text.rsplit(": ", 1)[1] for text in caplog.messages] == [
        "the server answers 503 Service Unavailable; trying again in 8 s",
        "the server answers 503 Service Unavailable; trying again in 16 s",
    ]
