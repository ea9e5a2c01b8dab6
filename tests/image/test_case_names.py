"""Names of cases from names of files: a channel's number is no part of them."""

from pathlib import Path

import pytest
from nifti_files import refusal

from kitsjax.image.case_names import find_named, name_cases


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a_0000.nii.gz", "b_0000.NII", "c.nii.gz"], ["a", "b", "c"]),
        (["case_00000.nii.gz", "case_00001.nii.gz"], ["case_00000", "case_00001"]),
        (["case_00000_0000.nii.gz"], ["case_00000"]),
        (["scan_0001.nii", "scan_0002.nrrd", "_0000.mha"], ["scan_0001", "scan_0002", "_0000"]),
        (["a_0000_0000.nii.gz", "b_000.nii", "x"], ["a_0000", "b_000", "x"]),
    ],
)
def test_the_first_channel_is_left_out(files, names):
    assert name_cases([Path(file) for file in files]) == names


def test_two_channels_are_refused_by_name():
    files = [Path("in/a_0000.nii.gz"), Path("in/A_0001.nii.gz"), Path("in/b_0000.nii.gz")]
    message = refusal(name_cases, files)
    assert message.startswith("in/a_0000.nii.gz and A_0001.nii.gz are two channels of A by their")


def test_the_name_of_a_label_is_a_cases_name():
    files = [Path("a_0000.nii"), Path("a_0001.nii"), Path("B_0000.nii")]
    assert name_cases(files, {"a_0000", "a_0001"}) == ["a_0000", "a_0001", "B"]


def test_masks_are_found_by_either_name():
    files = {"a": [Path("a.nii")], "a_0000": [Path("a_0000.nii")], "b_0000": [Path("b_0000.nii")]}
    assert find_named(files, "A") == ("a", [Path("a.nii")])
    assert find_named(files, "b") == ("b_0000", [Path("b_0000.nii")])
    assert find_named(files, "c")[1] == []
