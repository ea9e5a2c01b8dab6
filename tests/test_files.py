import json

import pytest

from kitsjax.errors import InputError
from kitsjax.files import (
    check_folder,
    read_rows,
    remove_file,
    remove_leftovers,
    write_text,
    written_beside,
)


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


def test_a_folder_is_checked_before_work_and_left_as_it_was(tmp_path):
    (tmp_path / "file").write_text("kept")
    check_folder(tmp_path / "new" / "deep")
    check_folder(tmp_path)
    for bad, named in {"file": "file", "file/below": "file", "x" * 300: "x" * 300}.items():
        with pytest.raises(InputError, match=named):
            check_folder(tmp_path / bad)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_removed_is_one_line(tmp_path):
    remove_file(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot remove"):
        remove_file(tmp_path / "folder")


ROWS = [
    {"kind": "step", "step": 1, "loss": 0.5},
    {"kind": "epoch", "epoch": 1, "step": 1, "dice": float("inf"), "validation_loss": None},
    {"kind": "step", "step": 2, "loss": -1},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("end", ["", '{"kind": "st', '{"kind": "step", "step": 3'])
def test_half_a_last_line_is_left_out(tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES + end)
    assert read_rows(path) == ROWS
    path.write_text(LINES[:-1])
    assert read_rows(path) == ROWS
    assert read_rows(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "line",
    [
        b"garbage", b"", b"[1, 2]", b"5", b"null", b"\xff\x00", b'{"step": 1}', b"[" * 9999,
        b'{"kind": "epoch", "epoch": "x"}', b'{"kind": "epoch", "step": 1}',
        b'{"kind": "step", "step": null}', b'{"kind": "step", "step": 1, "loss": "bad"}',
        b'{"kind": "step", "step": 1, "loss": 1' + 400 * b"0" + b"}", b"{}",
        b'{"kind": ["step"], "step": 1}', b'{"kind": "note", "note": 1}',
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_wherever_it_is(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    lines = LINES.encode().splitlines()
    for place in range(4):
        path.write_bytes(b"\n".join([*lines[:place], line, *lines[place:], b""]))
        with pytest.raises(InputError, match=rf"metrics\.jsonl, line {place + 1}: ") as error:
            read_rows(path)
        assert "\n" not in str(error.value)


def test_a_log_that_is_a_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot read the training log"):
        read_rows(tmp_path)
