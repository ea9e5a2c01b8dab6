import pytest

from kitsjax.errors import InputError
from kitsjax.files import remove_leftovers, write_text, written_beside


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with written_beside(path) as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_replaces_folder(tmp_path):
    path = tmp_path / "case"
    for name in ("one", "two"):
        with written_beside(path) as beside:
            beside.mkdir()
            (beside / name).touch()
    assert [p.name for p in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write") as error:
        write_text(tmp_path / "file" / "a.txt", "text")
    assert "\n" not in str(error.value)


def test_leftovers_of_killed_runs_go_and_nothing_else(tmp_path):
    for name in ("case", "a.txt", ".hidden"):
        (tmp_path / name).touch()
    with written_beside(tmp_path / "b.txt") as file, written_beside(tmp_path / "b") as folder:
        file.touch()
        (folder / "deep").mkdir(parents=True)
        remove_leftovers(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a.txt", "case"]
        file.touch()
        folder.mkdir()
