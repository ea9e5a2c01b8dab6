"""Finding the CTs that a path names, and their masks."""

import os

import pytest
from nifti_files import refusal

from kitsjax.errors import InputError
from kitsjax.image.read_nifti import read_volume
from kitsjax.infer.find_inputs import find_inputs


def test_find_inputs_lists_cts_and_their_masks(tmp_path):
    for name in ("kits/case_00001", "kits/case_00000", "flat"):
        (tmp_path / name).mkdir(parents=True)
    cts = [tmp_path / f"kits/case_0000{n}/imaging.nii.gz" for n in (0, 1)]
    flat = [tmp_path / "flat" / name for name in ("a.nii", "b.nii.gz")]
    mask = tmp_path / "kits/case_00000/aggregated_MAJ_seg.nii.gz"
    for path in [*cts, *flat, mask, tmp_path / "flat/._b.nii.gz", tmp_path / "flat/x.txt"]:
        path.touch()
    out = tmp_path / "out"
    masks = [out / f"case_0000{n}.nii.gz" for n in (0, 1)]
    assert find_inputs(tmp_path / "kits", out) == list(zip(cts, masks, strict=True))
    assert find_inputs(cts[0].parent, out) == [(cts[0], masks[0])]
    assert find_inputs(cts[1], out) == [(cts[1], masks[1])]
    link = tmp_path / "links/case_00009/imaging.nii.gz"
    link.parent.mkdir(parents=True)
    link.symlink_to(cts[0])
    assert find_inputs(link, out) == [(link, out / "case_00009.nii.gz")]
    assert find_inputs(flat[0], out) == [(flat[0], out / "a.nii.gz")]
    assert find_inputs(tmp_path / "flat", out) == [
        (flat[0], out / "a.nii.gz"),
        (flat[1], out / "b.nii.gz"),
    ]


def test_find_inputs_refuses_clashes(tmp_path):
    """It refuses paths without a CT, two CTs with one mask, and masks that would replace a CT."""
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no CT there"):
        find_inputs(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match="would replace an input"):
        find_inputs(tmp_path / "a.nii.gz", tmp_path)
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="would both be written"):
        find_inputs(tmp_path, tmp_path / "out")


def test_a_series_of_nifti_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    for path in (tmp_path, tmp_path / "a.nii.gz"):
        message = refusal(find_inputs, path, tmp_path / "out", series="3")
        assert message.startswith(f"{path}: holds no DICOM")
        assert "without --series" in message


@pytest.mark.parametrize("options", [{"series": "3"}, {"dicom_seg": True}])
def test_images_beside_dicom_are_named(tmp_path, options):
    """The folder holds DICOM, though it was not looked for."""
    (tmp_path / "case_00001").mkdir()
    (tmp_path / "case_00001" / "imaging.nii.gz").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "slice.dcm").write_bytes(bytes(128) + b"DICM")
    message = refusal(find_inputs, tmp_path, tmp_path / "out", **options)
    assert message == (
        f"{tmp_path}: holds image files (case_00001/imaging.nii.gz), which are taken before DICOM; "
        "move them away or give the DICOM folder"
    )
    (tmp_path / "deep" / "slice.dcm").unlink()
    assert "no DICOM" in refusal(find_inputs, tmp_path, tmp_path / "out", **options)


def test_what_find_inputs_passes_over_is_named(tmp_path, caplog):
    """CTs are found by name without case; everything else in the folder is in one note."""
    for name in ("PATIENT1.NII.GZ", "patient2.nii", "scan.nii.bz2", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "slice.dcm").write_bytes(bytes(128) + b"DICM")
    for name in ("Case_00003/IMAGING.nii", "other/thing.nii"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = find_inputs(tmp_path, tmp_path / "out")
    assert [(source.name, target.name) for source, target in found] == [
        ("IMAGING.nii", "Case_00003.nii.gz"),
        ("PATIENT1.NII.GZ", "PATIENT1.nii.gz"),
        ("patient2.nii", "patient2.nii.gz"),
    ]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: passed over 4 files: notes.txt, other (a folder), scan.nii.bz2, "
        "slice.dcm (DICOM)"
    )


def test_a_folder_of_damaged_dicom_is_refused(tmp_path, caplog):
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(InputError, match=r"its 3 DICOM files; 3 cannot be read; get them again"):
        find_inputs(tmp_path, tmp_path / "out")
    assert not caplog.records


def test_files_of_any_name_and_links_are_inputs(tmp_path):
    """A file that is named is tried, and so is a link to a file that is gone, so that it fails."""
    (tmp_path / "scan").touch()
    assert find_inputs(tmp_path / "scan", tmp_path / "out")[0][1].name == "scan.nii.gz"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii.gz").symlink_to(tmp_path / "gone")
    assert [source.name for source, _ in find_inputs(tmp_path / "in", tmp_path)] == ["a.nii.gz"]


def test_probabilities_have_paths_of_their_own(tmp_path):
    """Two files of one path, or a CT that would be replaced, are refused before any work."""
    for name in ("a.nii.gz", "a_probabilities.nii.gz"):
        (tmp_path / name).touch()
    out = tmp_path / "out"
    assert len(find_inputs(tmp_path, out)) == 2
    with pytest.raises(InputError, match=r"written to .*a_probabilities.nii.gz; rename one"):
        find_inputs(tmp_path, out, probabilities=True)
    # The mask of the one goes to a folder where its probabilities are the link to the other.
    out.mkdir()
    (out / "b_probabilities.nii.gz").symlink_to(tmp_path / "in" / "b.nii.gz")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.nii.gz").touch()
    assert len(find_inputs(tmp_path / "in", out)) == 1
    with pytest.raises(InputError, match=r"the probabilities of .* would replace an input"):
        find_inputs(tmp_path / "in", out, probabilities=True)


def test_loops_and_pipes_are_inputs_that_fail(tmp_path):
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for path in (tmp_path / "loop.nii.gz", tmp_path / "pipe.nii.gz"):
        assert [source for source, _ in find_inputs(path, tmp_path / "out")] == [path]
    assert len(find_inputs(tmp_path, tmp_path / "out")) == 2


@pytest.mark.parametrize("mode", [0, 0o400])
def test_an_unreadable_case_is_an_input(user_folder, caplog, mode):
    """Any other folder that may not be read is only named, for a disk has its lost+found."""
    for name in ("case_00000", "case_00001", "lost+found"):
        (user_folder / name).mkdir()
    image = user_folder / "case_00001" / "imaging.nii.gz"
    image.touch()
    (user_folder / "case_00000" / "imaging.nii.gz").touch()
    (user_folder / "case_00000").chmod(mode)
    (user_folder / "lost+found").chmod(0)
    found = find_inputs(user_folder, "out")
    assert [source for source, _ in found] == [user_folder / "case_00000/imaging.nii.gz", image]
    message = f"{user_folder}: passed over 1 file: lost+found (a folder that may not be read)"
    assert caplog.messages == [message]
    refused = refusal(read_volume, found[0][0])
    # Whether there is a CT, nobody can tell.
    assert refused.endswith("cannot read (Permission denied); make it readable")


def test_nnunet_names_give_masks_of_cases(tmp_path):
    """`X_0000` is the CT of case X; the imagesTs of a data set are what is to be predicted."""
    for name in ("Dataset/imagesTs/a_0000.nii.gz", "Dataset/imagesTs/b_0000.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "Dataset" / "imagesTr").mkdir()
    for path in (tmp_path / "Dataset", tmp_path / "Dataset" / "imagesTs"):
        found = find_inputs(path, tmp_path / "out")
        assert [target.name for _, target in found] == ["a.nii.gz", "b.nii.gz"]
    one = tmp_path / "Dataset/imagesTs/a_0000.nii.gz"
    assert find_inputs(one, tmp_path) == [(one, tmp_path / "a.nii.gz")]
    (one.parent / "a.nii.gz").touch()
    assert "would both be written to" in refusal(find_inputs, one.parent, tmp_path / "out")
    (one.parent / "b_0001.nii.gz").touch()
    message = refusal(find_inputs, one.parent, tmp_path / "out")
    assert "b_0000.nii.gz and b_0001.nii.gz are two channels of b by their names" in message


def test_nrrd_and_metaimage_are_inputs(tmp_path):
    for name in ("a.nrrd", "B.MHA", "c_0000.mhd", "d.nhdr", "imaging.txt"):
        (tmp_path / name).touch()
    found = find_inputs(tmp_path, tmp_path / "out")
    assert [target.name for _, target in found] == [
        "B.nii.gz", "a.nii.gz", "c.nii.gz", "d.nii.gz",
    ]  # fmt: skip


def test_a_stray_image_hides_no_case(tmp_path, caplog):
    """It is one more CT, named after the folder; its label is none."""
    root = tmp_path / "kits21"
    for name in ("case_00000", "case_00001", "."):
        (root / name).mkdir(parents=True, exist_ok=True)
        for file in ("imaging.nii.gz", "Segmentation.nii.gz"):
            (root / name / file).touch()
    found = find_inputs(root, tmp_path / "out")
    assert [target.name for _, target in found] == [
        "case_00000.nii.gz", "case_00001.nii.gz", "kits21.nii.gz",
    ]  # fmt: skip
    assert caplog.messages == [f"{root}: passed over 1 file: Segmentation.nii.gz"]


def test_a_stray_image_hides_no_other_image(tmp_path, monkeypatch):
    """Unless its folder is named like a case, or holds only its label and its mask."""
    for name in ("flat", "case_00001"):
        (tmp_path / name).mkdir()
        for file in ("imaging.nii.gz", "aggregated_AND_seg.nii.gz", f"{name}.nii.gz",
                     f"{name}_probabilities.nii.gz"):  # fmt: skip
            (tmp_path / name / file).touch()
        assert len(find_inputs(tmp_path / name, tmp_path / "out")) == 1
        (tmp_path / name / "b.nrrd").touch()
    assert [target.name for _, target in find_inputs(tmp_path / "flat", tmp_path / "out")] == [
        "b.nii.gz", "flat.nii.gz",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path / "case_00001")
    assert len(find_inputs(".", tmp_path / "out")) == 1


def test_an_image_at_the_root_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "lexists", lambda path: True)
    ((_, target),) = find_inputs("/imaging.nii.gz", tmp_path)
    assert target == tmp_path / "imaging.nii.gz"


@pytest.mark.parametrize("given", ["case_00001", "."])
def test_two_images_of_a_case_are_told(tmp_path, given):
    """One may be the corrected scan; which one is the user's to say."""
    case = tmp_path / "data" / "case_00001"
    case.mkdir(parents=True)
    for name in ("imaging.nii.gz", "imaging.nii"):
        (case / name).touch()
    with pytest.raises(InputError, match=r"imaging\.nii(\.gz)? and .* would both be written"):
        find_inputs(tmp_path / "data" / given, tmp_path / "out")
