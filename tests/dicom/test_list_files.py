"""Folders of DICOM that are links, or may not be read, cost no patient a mask in silence."""

import os
from pathlib import Path

import pytest
from dicom_files import write_series
from nifti_files import refusal

from kitsjax import read_volume
from kitsjax.dicom.cases import find_dicom
from kitsjax.dicom.list_files import list_files
from kitsjax.infer.find_inputs import find_inputs


def write_patients(folder, *names):
    for number, name in enumerate(names):
        write_series(folder / name, uid=name, StudyInstanceUID=f"1.{number}")


def count_slices(path):
    return {name: len(series.images) for series, name in find_dicom(path)}


def test_linked_folders_are_cases(tmp_path):
    """A link that leads back adds nothing: each folder is listed once."""
    write_patients(tmp_path / "archive", "p1", "p2")
    (tmp_path / "in").mkdir()
    for name, target in (("A", "p1"), ("B", "p2")):
        (tmp_path / "in" / name).symlink_to(tmp_path / "archive" / target)
    assert count_slices(tmp_path / "in") == {"A": 6, "B": 6}
    (tmp_path / "in" / "A" / "loop").symlink_to("..")
    (tmp_path / "in" / "A" / "back").symlink_to(tmp_path / "in")
    assert count_slices(tmp_path / "in") == {"A": 6, "B": 6}


def test_a_link_back_adds_no_patients(tmp_path):
    """A link to the folder that holds the one that was given, or that a link leads to."""
    write_patients(tmp_path / "archive", "p1", "p2")
    (tmp_path / "archive" / "p1" / "up").symlink_to("..")
    assert count_slices(tmp_path / "archive" / "p1") == {"p1": 6}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "A").symlink_to(tmp_path / "archive" / "p1")
    assert {file.parent.name for file in list_files(tmp_path / "in")[0]} == {"A"}


def test_a_folder_goes_before_links_to_it(tmp_path):
    """Whatever their names; of several links the first by name counts."""
    write_patients(tmp_path / "in", "m")
    (tmp_path / "in" / "a").symlink_to("m")
    assert {file.parent.name for file in list_files(tmp_path / "in")[0]} == {"m"}
    (tmp_path / "in" / "m").rename(tmp_path / "outside")
    for name in ("a", "b"):
        (tmp_path / "in" / name).unlink(missing_ok=True)
        (tmp_path / "in" / name).symlink_to(tmp_path / "outside")
    files, _ = list_files(tmp_path / "in")
    assert [file.relative_to(tmp_path) for file in files] == [
        Path("in", "a", f"IM000{number}") for number in range(6)
    ]


@pytest.mark.parametrize("mode", [0, 0o400])
def test_an_unreadable_patient_is_a_failing_case(user_folder, caplog, mode):
    """Without a name; what root alone may read at the top of a disk is no patient."""
    write_patients(user_folder, "A", "Muster", "Z")
    (user_folder / "Muster").chmod(mode)
    (user_folder / "lost+found").mkdir(mode=0)
    (user_folder / "private.txt").touch(mode=0)
    *good, (lost, name) = find_dicom(user_folder)
    assert [case for _, case in good] == ["A", "Z"]
    message = "folder 2 of 4 by name may not be read; make it readable"
    assert refusal(read_volume, lost) == f"{user_folder}: {message}"
    assert name == "folder 2 of 4 by name"
    (note,) = caplog.messages
    assert "passed over 1 file and folder 4 of 4 by name" in note
    assert "Muster" not in f"{lost} {lost.describe()} {note}"


def test_a_link_that_may_not_be_followed_fails(user_folder):
    write_patients(user_folder / "in", "A")
    write_patients(user_folder / "archive", "B")
    (user_folder / "in" / "B").symlink_to(user_folder / "archive" / "B")
    (user_folder / "archive").chmod(0)
    _, (lost, _) = find_dicom(user_folder / "in")
    assert "folder 2 of 2 by name may not be read" in refusal(read_volume, lost)


def test_unreadable_parts_of_a_case_are_noted(user_folder, caplog):
    write_patients(user_folder, "A", "M/series1", "Z")
    (user_folder / "M" / "series2").mkdir(mode=0)
    (user_folder / "Z" / "texts").mkdir()
    (user_folder / "Z" / "texts" / "private.txt").touch(mode=0)
    assert count_slices(user_folder) == {"A": 6, "M": 6, "Z": 6}
    assert caplog.messages == [
        f"{user_folder}: 2 files or folders in folders 2, 3 of 3 by name may not be read"
    ]


def test_only_unreadable_patients_are_told(user_folder):
    for name in ("Muster", "other"):
        write_patients(user_folder, name)
        (user_folder / name).chmod(0)
    for find in (read_volume, lambda path: find_inputs(path, "out")):
        assert refusal(find, user_folder) == (
            f"{user_folder}: no DICOM found, but 2 of its files and folders may not be read; make "
            "them readable"
        )


@pytest.mark.parametrize("name", ["folder", "folder/file.dcm"])
def test_read_volume_says_what_may_not_be_read(user_folder, name):
    write_patients(user_folder, "folder")
    (user_folder / "folder").chmod(0)
    message = refusal(read_volume, user_folder / name)
    assert message == f"{user_folder / name}: cannot read (Permission denied); make it readable"


def test_pipes_and_indexes_are_no_slices(tmp_path):
    """An index in any case; opening a pipe would wait for ever."""
    write_patients(tmp_path, "A")
    for name in ("DICOMDIR", "dicomdir"):
        (tmp_path / "A" / name).write_bytes(bytes(128) + b"DICM")
    os.mkfifo(tmp_path / "A" / "pipe")
    (tmp_path / "A" / "gone").symlink_to(tmp_path / "absent")
    files, shut = list_files(tmp_path)
    assert len(files) == 6
    assert shut == []
