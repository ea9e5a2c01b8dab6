import errno
import io

import pytest

from kitsjax.errors import InputError
from kitsjax.files import (
    atomic_write,
    check_file,
    check_folder,
    remove_file,
    remove_leftovers,
    write_text,
)


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


def test_only_leftovers_of_killed_runs_go(tmp_path):
    for name in ("case", "a.txt", ".hidden"):
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "b.txt") as file, atomic_write(tmp_path / "b") as folder:
        file.touch()
        (folder / "deep").mkdir(parents=True)
        remove_leftovers(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a.txt", "case"]
        file.touch()
        folder.mkdir()


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

    monkeypatch.setattr("kitsjax.files.tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(InputError, match=r"cannot write there \(No space.*with run.folder"):
        check_folder(tmp_path, "run.folder")


def test_what_cannot_be_removed_is_one_line(tmp_path):
    remove_file(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot remove"):
        remove_file(tmp_path / "folder")
