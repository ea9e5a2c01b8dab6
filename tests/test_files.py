import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.files import (
    atomic_write,
    check_file,
    check_folder,
    move_new,
    remove_file,
    remove_leftovers,
    temporary_beside,
    write_text,
)
from kitsjax.infer.bundle import save_bundle
from kitsjax.processes import host_name, machine_id
from kitsjax.run_record import RunRecord, write_record
from kitsjax.settings import Settings


def test_failure_leaves_only_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with atomic_write(path) as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_with_a_name_that_is_no_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "volume in cm³ of scan\udcff.nii")
    text = (tmp_path / "a.txt").read_text("utf-8")
    assert text == r"volume in cm³ of scan\udcff.nii"


def test_folder_replaces_folder(tmp_path):
    path = tmp_path / "case"
    for name in ("one", "two"):
        with atomic_write(path) as beside:
            beside.mkdir()
            (beside / name).touch()
    assert [p.name for p in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write") as error:
        write_text(tmp_path / "file" / "a.txt", "text")
    assert "\n" not in str(error.value)


def test_later_of_two_writers_replaces(tmp_path):
    """Two write one file and one folder at once; neither fails, nothing is mixed or left."""
    for name, content in (("a.txt", None), ("a", "x")):
        path = tmp_path / name
        with atomic_write(path) as first:
            with atomic_write(path) as second:
                assert first != second
                write(second, content, "second")
            assert read(path, content) == "second"
            write(first, content, "first")
        assert read(path, content) == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.txt"]


def write(path, content, text):
    if content:
        path.mkdir()
    (path / content if content else path).write_text(text)


def read(path, content):
    return (path / content if content else path).read_text()


def test_many_writers_of_one_folder(tmp_path):
    path, failures = tmp_path / "case", []

    def work(number):
        try:
            for _ in range(50):
                with atomic_write(path) as beside:
                    write(beside, "x", str(number))
        except InputError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert read(path, "x") in "0123"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, "x"], ids=["file", "folder"])
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_first_of_two_movers_wins(tmp_path, monkeypatch, content, links):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links on this disk")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"
    moved = []
    for text in ("first", "second"):
        with temporary_beside(path) as temporary:
            write(temporary, content, text)
            moved.append(move_new(temporary, path))
    assert moved == [True, False]
    assert read(path, content) == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_copy_is_removed(tmp_path, monkeypatch):
    """On a disk without links, which is full; another run would take the half for the whole."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_):
        raise OSError(errno.EPERM, "no links on this disk")

    (tmp_path / "new").write_text("whole")
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "read_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        move_new(tmp_path / "new", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_long_names_have_room_for_temporary_ones(tmp_path):
    name = "\u00e9" * 120 + ".nii.gz"
    with atomic_write(tmp_path / name) as beside:
        assert beside.name.endswith(".nii.gz")
        beside.touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_only_leftovers_of_killed_runs_go(tmp_path):
    """Those of a process that has ended here, or a day old; not those of a run that goes on."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here, there = f"{host_name()}-{machine_id()}", f"{host_name()}-00000000"
    dead = f".{here}-{ended.pid}-01234567.partial.a"
    kept = [
        "a.txt", ".hidden", f".{there}-{ended.pid}-01234567.partial.b", ".17.partial.c",
        f".{here}-{os.getpid()}-01234567.partial.d", "b.txt",
    ]  # fmt: skip
    old = [f".{there}-{ended.pid}-89abcdef.partial.b", ".18.partial.c"]
    for name in (dead, *kept, *old):
        (tmp_path / name).touch()
    for name in (*old, "a.txt", ".hidden"):
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / dead).unlink()
    (tmp_path / dead / "deep").mkdir(parents=True)
    with atomic_write(tmp_path / "b.txt") as file:
        file.touch()
        remove_leftovers(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {*kept, file.name}
        file.touch()
    remove_leftovers(tmp_path / "nowhere")


def test_checking_a_folder_leaves_it_as_it_was(tmp_path):
    """The message names what is in the way, and what moves the folder."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "taken.csv").mkdir()
    check_folder(tmp_path / "new" / "deep", "--output", ["a.csv"])
    check_folder(tmp_path, "--output", ["file", "a.csv"])
    check_file(tmp_path / "new" / "a.csv", "--output")
    for bad, named in {"file": "file", "file/below": "file", "x" * 300: "x" * 300}.items():
        with pytest.raises(InputError, match=f"{named}: .*folder with data.cache$"):
            check_folder(tmp_path / bad, "data.cache")
    with pytest.raises(InputError, match=r"taken.csv: is a folder.*with --output$"):
        check_folder(tmp_path, "--output", ["taken.csv"])
    with pytest.raises(InputError, match=r"taken.csv: is a folder.*with --output$"):
        check_file(tmp_path / "taken.csv", "--output")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.csv"]


def test_a_full_disk_is_found_by_the_check(tmp_path, monkeypatch):
    """A full disk may still take an empty file, so that some bytes are written."""

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kitsjax.files.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(InputError, match=r"cannot write there \(No space.*with run.folder"):
        check_folder(tmp_path, "run.folder")


def test_what_cannot_be_removed_is_one_line(tmp_path):
    remove_file(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot remove"):
        remove_file(tmp_path / "folder")


def test_links_that_lead_nowhere_are_no_folders(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("gone")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    check_folder(tmp_path / "link" / "below", "--output")
    for name in ("loop", "broken", "loop/below", "broken/below"):
        with pytest.raises(InputError, match=r"leads nowhere; choose .* with --output$"):
            check_folder(tmp_path / name, "--output")


def test_what_is_synced_is_so_before_its_name(tmp_path, monkeypatch):
    """A power failure leaves the old run.json or the new one; other files are not waited for."""
    events, sync, replace = [], os.fsync, os.replace

    def note_sync(handle):
        events.append("sync")
        sync(handle)

    def note_replace(old, new):
        events.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text(tmp_path / "a.txt", "text")
    assert events == ["replace"]
    for write in (_write_run_record, _write_model_file):
        events.clear()
        write(tmp_path)
        assert events == ["sync", "replace"]


def _write_run_record(folder):
    write_record(folder, RunRecord(settings="", versions={}, train=[], held_out=[]))


def _write_model_file(folder):
    save_bundle(folder / "model.safetensors", {"a": np.zeros(1, np.float32)}, Settings(), {})
