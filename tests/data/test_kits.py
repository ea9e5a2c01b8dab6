"""Finding the cases of a data folder, and what is refused."""

import os

import pytest
from nifti_files import refusal

from kitsjax.data.kits import find_cases
from kitsjax.errors import InputError

ANNOTATION = "kidney_instance-1_annotation-1.nii.gz"


def make_case(root, name, *files):
    (root / name).mkdir(parents=True)
    for file in files:
        (root / name / file).touch()


def test_finds_kits21_and_kits23_cases_sorted(tmp_path):
    make_case(tmp_path, "case_00001", "imaging.nii.gz", "segmentation.nii.gz")
    make_case(
        tmp_path, "case_00000", "imaging.nii.gz", "segmentation.nii.gz",
        "aggregated_MAJ_seg.nii.gz",
    )  # fmt: skip
    make_case(tmp_path, ".12.partial.case_00002", "imaging.nii.gz")
    cases = find_cases(tmp_path)
    assert [c.case_id for c in cases] == ["case_00000", "case_00001"]
    assert [c.label.name for c in cases] == ["aggregated_MAJ_seg.nii.gz", "segmentation.nii.gz"]


@pytest.mark.parametrize("files", [[], ["imaging.nii.gz"], ["segmentation.nii.gz"]])
def test_incomplete_case_is_named(tmp_path, files):
    make_case(tmp_path, "case_00007", *files)
    with pytest.raises(InputError, match="case_00007"):
        find_cases(tmp_path)


def test_scoring_needs_a_truth_but_no_image(tmp_path):
    make_case(tmp_path, "case_00000", "segmentation.nii.gz", "imaging.nii.gz")
    make_case(tmp_path, "case_00021", "aggregated_MAJ_seg.nii.gz")
    make_case(tmp_path, "case_00210", "imaging.nii.gz")  # KiTS19 keeps these labels to itself
    make_case(tmp_path, "case_00299/segmentations", ANNOTATION)
    make_case(tmp_path, "case_00588", "segmentation.nii.gz")
    cases = find_cases(tmp_path, images=False)
    assert [case.has_truth for case in cases] == [True, True, False, True, True]
    cases.pop(2)
    assert [case.seed for case in cases] == [0, 21, 299, 588]
    assert [case.label.is_file() for case in cases] == [True, True, False, True]
    assert [case.image.is_file() for case in cases] == [True, False, False, False]
    assert [case.annotations for case in cases] == [
        None, None, tmp_path / "case_00299" / "segmentations", None,
    ]  # fmt: skip
    assert [case.folder.name for case in cases] == [case.case_id for case in cases]
    with pytest.raises(InputError, match=r"no imaging.nii.gz in case_00021, case_00299"):
        find_cases(tmp_path)


def test_a_truth_is_a_label_or_annotations(tmp_path):
    make_case(tmp_path, "case_00001/segmentations", "._" + ANNOTATION, "notes.txt")
    make_case(tmp_path, "case_00002", "imaging.nii.gz")
    with pytest.raises(InputError, match="no case has a label"):
        find_cases(tmp_path, images=False)
    make_case(tmp_path, "case_00003/segmentations", ANNOTATION)
    *others, case = find_cases(tmp_path, images=False)
    assert case.case_id == "case_00003"
    assert case.has_truth
    assert not any(other.has_truth for other in others)
    # Training takes no case by its annotations alone.
    (case.folder / "imaging.nii.gz").touch()
    (tmp_path / "case_00001" / "imaging.nii.gz").touch()
    with pytest.raises(InputError, match=r"no label .* in case_00001, case_00002"):
        find_cases(tmp_path)


def test_missing_and_empty_folders_are_named(tmp_path):
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=str(root)):
            find_cases(root)


def test_names_are_compared_without_case(tmp_path):
    """Windows writes capitals; a browser unpacks imaging.nii.gz to imaging.nii."""
    make_case(tmp_path, "CASE_00002", "IMAGING.NII.GZ", "Segmentation.nii")
    make_case(tmp_path, "case_00001", "imaging.nii", "aggregated_maj_seg.nii.gz")
    make_case(tmp_path, "case_00001/Segmentations", ANNOTATION.upper().replace(".GZ", ""))
    one, other = find_cases(tmp_path)
    assert [one.case_id, other.case_id] == ["case_00001", "case_00002"]
    assert [one.image.name, other.image.name] == ["imaging.nii", "IMAGING.NII.GZ"]
    assert [one.label.name, other.label.name] == ["aggregated_maj_seg.nii.gz", "Segmentation.nii"]
    assert (one.annotations, other.annotations) == (tmp_path / "case_00001/Segmentations", None)
    make_case(tmp_path, "case_00002", "imaging.nii.gz", "segmentation.nii.gz")
    message = f"{tmp_path}/case_00002 and CASE_00002 are of one case; keep one"
    with pytest.raises(InputError, match=message):
        find_cases(tmp_path)
    # Checking and scoring leave the other cases alone.
    assert [case.problem for case in find_cases(tmp_path, images=False)] == ["", message]


def test_every_incomplete_case_is_named(tmp_path):
    """All are named at once, before anything is preprocessed."""
    for number in range(6):
        files = ["imaging.nii.gz", "segmentation.nii.gz"][number % 3 == 1 : 2 - (number % 3 == 2)]
        make_case(tmp_path, f"case_0000{number}", *files)
    message = refusal(find_cases, tmp_path)
    assert "no imaging.nii.gz in case_00001, case_00004; no label" in message
    assert "in case_00002, case_00005; add the files" in message
    assert "case_00000" not in message


def test_two_images_or_labels_are_told(tmp_path):
    """Training names all such cases at once; scoring and checking fail each by itself."""
    names = ("imaging.nii.gz", "aggregated_MAJ_seg.nii.gz", "segmentation.nii.gz")
    for number in range(4):
        make_case(tmp_path, f"case_0000{number}", *names)
    (tmp_path / "case_00000" / "imaging.nii").touch()
    (tmp_path / "case_00001" / "aggregated_maj_seg.NII").touch()
    (tmp_path / "case_00001" / "IMAGING.nii.gz").touch()
    # The label that is not used may be there twice.
    (tmp_path / "case_00002" / "segmentation.nii").touch()
    told = "are of one case; keep one of them"
    image = f"{tmp_path}/case_00000/imaging.nii.gz and imaging.nii {told}"
    folder = tmp_path / "case_00001"
    both = (
        f"{folder}/imaging.nii.gz and IMAGING.nii.gz {told}; "
        f"{folder}/aggregated_MAJ_seg.nii.gz and aggregated_maj_seg.NII {told}"
    )
    cases = find_cases(tmp_path, images=False)
    assert [case.problem for case in cases] == [image, both, "", ""]
    assert cases[0].image.name == "imaging.nii.gz"
    assert refusal(find_cases, tmp_path) == f"{image}; {both}"
    (tmp_path / "case_00003" / "aggregated_MAJ_seg.nii.gz").unlink()
    (tmp_path / "case_00003" / "segmentation.nii").touch()
    *_, last = find_cases(tmp_path, images=False)
    assert last.problem.endswith(f"/segmentation.nii.gz and segmentation.nii {told}")


def test_folders_that_are_no_cases_are_named(tmp_path, caplog):
    make_case(tmp_path, "case_00000", "imaging.nii.gz", "segmentation.nii.gz")
    make_case(tmp_path, "case_7", "imaging.nii.gz", "segmentation.nii.gz")
    # What KiTS21 has beside its cases and in them.
    for name in ("kits.json", "LICENSE", "README.md", "case_00000/aggregated_OR_seg.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "case_00000" / "raw").mkdir()
    assert len(find_cases(tmp_path)) == 1
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}: passed over 1 file: case_7 (a folder)"
    (tmp_path / "stray.nii.gz").touch()
    find_cases(tmp_path)
    assert caplog.messages[1].endswith("passed over 2 files: case_7 (a folder), stray.nii.gz")


def test_all_unreadable_cases_are_named(user_folder):
    """Training names them at once; scoring fails each by itself."""
    for number in range(4):
        make_case(user_folder, f"case_0000{number}", "imaging.nii.gz", "segmentation.nii.gz")
    make_case(user_folder, "case_00002/segmentations", ANNOTATION)
    (user_folder / "case_00001").chmod(0)
    (user_folder / "case_00002/segmentations").chmod(0)
    (user_folder / "case_00003").chmod(0o400)
    message = refusal(find_cases, user_folder)
    for name in ("case_00001", "case_00002/segmentations", "case_00003"):
        assert f"{user_folder / name}" in message
    assert message.count("cannot read (Permission denied); make it readable") == 3
    whole, *others = find_cases(user_folder, images=False)
    assert whole.problem == ""
    assert all(case.has_truth and "make it readable" in case.problem for case in others)


def test_links_that_lead_nowhere_are_told(tmp_path):
    make_case(tmp_path, "case_00000", "segmentation.nii.gz")
    make_case(tmp_path, "case_00001", "imaging.nii.gz")
    make_case(tmp_path, "case_00002", "segmentation.nii.gz")
    (tmp_path / "case_00000" / "imaging.nii.gz").symlink_to("../images/0.nii.gz")
    (tmp_path / "case_00001" / "segmentation.nii.gz").symlink_to("segmentation.nii.gz")
    os.mkfifo(tmp_path / "case_00002" / "imaging.nii.gz")
    message = refusal(find_cases, tmp_path)
    assert "imaging.nii.gz is a link that leads nowhere in case_00000; " in message
    assert "segmentation.nii.gz is a link that leads nowhere in case_00001; " in message
    assert "imaging.nii.gz is not a file in case_00002; " in message
    cases = find_cases(tmp_path, images=False)
    assert all(case.has_truth for case in cases)
    (tmp_path / "loop").symlink_to("loop")
    assert "loop: is a link that leads nowhere" in refusal(find_cases, tmp_path / "loop")
