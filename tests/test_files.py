import pytest

from kitsjax.errors import InputError
from kitsjax.files import write_text, written_beside


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), written_beside(path) as beside:
        beside.write_text("half")
        raise RuntimeError
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
