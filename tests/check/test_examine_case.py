import nibabel as nib
import numpy as np
import pytest
from faults import FAULTS, IMAGE, LABEL, edit, set_voxel, stretch_label
from nifti_files import stored_as

from kitsjax.check.findings import ERROR, GRADES, WARNING
from kitsjax.labels import KITS

ERRORS = {
    "unreadable case", "unreadable file", "missing file", "grid mismatch", "foreign labels", "NaN",
    "wrong spacing", "tilted axes", "empty label", "incomplete annotations", "duplicated image",
    "unsigned HU",
}  # fmt: skip


def test_what_training_refuses_is_an_error():
    """The rest is judged by experience, and so are warnings."""
    assert {name for name, grade in GRADES.items() if grade == ERROR} == ERRORS
    assert set(GRADES.values()) == {ERROR, WARNING}


def test_every_fault_is_made_by_a_test():
    assert set(GRADES) - {"duplicated image"} == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_alone(examine, case_folder, name):
    """A case has the one fault that was made, with its name, and a clean case has none."""
    assert examine().findings == ()
    FAULTS[name](case_folder)
    checked = examine()
    assert {found.name for found in checked.findings} == {name}
    assert checked.grade == GRADES[name]
    for found in checked.findings:
        assert "\n" not in found.text
        # Files are named from the case's folder, which the page shows anyway.
        assert str(case_folder) not in found.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unreadable file", "imaging.nii.gz: damaged or cut short"),
        ("missing file", "no imaging.nii.gz"),
        ("grid mismatch", "imaging.nii.gz and aggregated_MAJ_seg.nii.gz: voxels lie up to"),
        ("foreign labels", "aggregated_MAJ_seg.nii.gz: label values 7 are not among 0, 1, 2, 3"),
        ("NaN", "imaging.nii.gz: 1 of"),
        ("wrong spacing", "imaging.nii.gz: its spacing of 0.00"),
        ("tilted axes", "imaging.nii.gz: its axes are 18.5 degrees off perpendicular"),
        ("incomplete annotations", "segmentations: holds no tumor, though aggregated_MAJ_seg"),
        ("empty label", "aggregated_MAJ_seg.nii.gz: no voxel is labeled"),
        ("annotators disagree", "two annotations of tumor 1 is 0.3"),
        ("note on a file", "does not say how the patient lies"),
    ],
)
def test_what_a_fault_says(examine, case_folder, name, said):
    FAULTS[name](case_folder)
    (found,) = examine().findings
    assert said in found.text


def test_one_fault_hides_no_other(examine, case_folder):
    """A broken image, a foreign label and an annotation on another grid are all found."""
    FAULTS["unreadable file"](case_folder)
    FAULTS["foreign labels"](case_folder)
    annotation = case_folder / "segmentations" / "kidney_instance-1_annotation-1.nii.gz"
    edit(annotation, lambda mask: mask[1:])
    assert [found.name for found in examine().findings] == [
        "unreadable file", "grid mismatch", "foreign labels",
    ]  # fmt: skip


def test_every_annotation_that_is_wrong_is_told(examine, case_folder):
    """Each file has its own fault once, and so has a wrong name, which is no fault of reading."""
    folder = case_folder / "segmentations"
    cut, moved, foreign = (
        folder / f"kidney_instance-{name}.nii.gz"
        for name in ("1_annotation-2", "1_annotation-3", "2_annotation-1")
    )
    cut.write_bytes(b"damaged")
    edit(moved, lambda mask: mask[1:])
    edit(foreign, lambda mask: set_voxel(mask, (1, 2, 3), 7))
    told = [
        ("unreadable file", f"segmentations/{cut.name}: not a readable NIfTI"),
        ("grid mismatch", f"segmentations/{moved.name} and imaging.nii.gz: shapes"),
        ("foreign labels", f"segmentations/{foreign.name}: label values 7 are"),
    ]
    checked = examine()
    assert [found.name for found in checked.findings] == [name for name, _ in told]
    for found, (_, text) in zip(checked.findings, told, strict=True):
        assert found.text.startswith(text)
    assert checked.annotators is None
    (folder / "kidney-3.nii.gz").write_bytes(
        (folder / "kidney_instance-1_annotation-1.nii.gz").read_bytes()
    )
    names = [found.text.split(":")[0] for found in examine().findings]
    assert sorted(names) == sorted(
        [*(text.split(":")[0] for _, text in told), "segmentations/kidney-3.nii.gz"]
    )


def test_facts_stay_where_a_file_is_broken(examine, case_folder):
    before = examine()
    FAULTS["NaN"](case_folder)
    checked = examine()
    assert checked.image is None
    assert checked.grid.shape == before.grid.shape
    assert checked.label == before.label
    assert checked.annotators == before.annotators


def test_a_label_elsewhere_draws_no_contours(examine, case_folder):
    """On another grid it would lie at the wrong place; the image is drawn without it."""
    stretch_label(case_folder)
    elsewhere = examine().image.pictures
    (case_folder / LABEL).unlink()
    assert elsewhere == examine().image.pictures


def test_an_image_stored_along_other_axes(examine, case_folder):
    """The facts are those of the same voxels, but for the file's axes."""
    before = examine()
    image = nib.load(case_folder / IMAGE)
    nib.save(
        nib.Nifti1Image(*stored_as("LPS", np.asarray(image.dataobj), image.affine)),
        case_folder / IMAGE,
    )
    checked = examine()
    assert checked.image == before.image
    assert checked.findings == ()


def test_a_note_on_many_files_is_told_once(examine, case_folder):
    FAULTS["note on a file"](case_folder)
    (note,) = examine().findings
    assert note.text.endswith("(the same holds for 1 more)")


def test_an_unforeseen_error_is_a_fault(examine, tmp_path, monkeypatch):
    def fail(path, labels):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("kitsjax.check.examine_case.read_label", fail)
    (found,) = examine().findings
    assert found.name == "unreadable file"
    assert found.text.startswith("aggregated_MAJ_seg.nii.gz: ZeroDivisionError: a bug")
    assert "in fail" in (tmp_path / "output" / "errors.log").read_text()


def test_a_folder_that_cannot_be_read(case_folder, root, tmp_path):
    from kitsjax.check.examine_case import examine_case
    from kitsjax.data.case import Case

    case = Case("case_00001", case_folder / IMAGE, case_folder / LABEL, problem="it is locked")
    checked = examine_case(case, tmp_path, KITS, 1.99)
    assert checked.findings == (("unreadable case", "it is locked"),)
    assert checked.grid is None


def test_volumes_and_lesions_of_a_known_label(examine, case_folder):
    """Two tumors of 8 and 27 voxels, a kidney of 64, and a single voxel of a cyst."""

    def draw(label):
        label[:] = 0
        label[0:4, 0:4, 0:4] = 1
        label[10:12, 10:12, 10:12] = 2
        label[20:23, 20:23, 20:23] = 2
        return set_voxel(label, (30, 30, 30), 3)

    edit(case_folder / LABEL, draw)
    checked = examine()
    voxel_cm3 = float(np.prod(checked.grid.spacing_mm)) / 1000
    assert checked.label.volumes_cm3 == pytest.approx(
        {"kidney": 64 * voxel_cm3, "tumor": 35 * voxel_cm3, "cyst": voxel_cm3}
    )
    assert checked.label.lesions_cm3["tumor"] == pytest.approx([27 * voxel_cm3, 8 * voxel_cm3])
    assert checked.label.lesions_cm3["cyst"] == pytest.approx([voxel_cm3])


def test_missing_files_are_named_in_any_layout(tmp_path):
    from kitsjax.check.examine_case import examine_case
    from kitsjax.data.case import Case

    image, label = tmp_path / "images" / "a_0000.nii.gz", tmp_path / "labels" / "a.nii.gz"
    checked = examine_case(Case("a", image, label, dataset=tmp_path), tmp_path, KITS, 1.99)
    texts = {found.text for found in checked.findings}
    assert texts == {"no a_0000.nii.gz; add it", "no a.nii.gz; add it"}
