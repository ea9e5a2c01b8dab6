"""Cases are checked alone, and then compared."""

import shutil

import nibabel as nib
import numpy as np
import pytest
from faults import FAULTS, IMAGE, edit, set_voxel

from kitsjax.check.check_cases import check_cases
from kitsjax.check.checked_case import CheckedCase, sort_cases
from kitsjax.check.findings import GRADES, Finding, sort_findings
from kitsjax.data.kits import find_cases


@pytest.fixture
def check(root, tmp_path):
    def run():
        cases = find_cases(root, images=False)
        return check_cases(cases, tmp_path / "output", workers=1, progress=False)

    return run


def test_a_clean_data_set(check):
    checked = check()
    assert [case.case_id for case in checked] == [f"case_{n:05d}" for n in range(4)]
    assert {case.grade for case in checked} == {"clean"}
    assert all(len(case.image.pictures) == 2 for case in checked)


def test_duplicated_images_are_found_by_content(check, root):
    """Another name, type and axis order hide nothing; each of the three names the others."""
    shutil.rmtree(root / "case_00001" / "segmentations")
    shutil.copytree(root / "case_00001", root / "case_00002", dirs_exist_ok=True)
    image = nib.load(root / "case_00001" / IMAGE)
    (root / "case_00003" / IMAGE).unlink()
    flipped = np.asarray(image.dataobj)[::-1].astype(np.float64)
    affine = image.affine @ np.diag([-1, 1, 1, 1])
    affine[:3, 3] = (image.affine @ [len(flipped) - 1, 0, 0, 1])[:3]
    nib.save(nib.Nifti1Image(flipped, affine), root / "case_00003" / "imaging.nii")
    texts = {
        case.case_id: found.text
        for case in check()
        for found in case.findings
        if found.name == "duplicated image"
    }
    assert sorted(texts) == ["case_00001", "case_00002", "case_00003"]
    assert "of case_00001, case_00003;" in texts["case_00002"]


def test_images_of_small_values_are_no_duplicates(check, root):
    """Attenuation per mm rounds to 0 HU everywhere; still, one voxel makes it another image."""
    folder, other = root / "case_00001", root / "case_00002"
    edit(folder / IMAGE, lambda hu: ((hu + 1000) * 2e-5).astype(np.float32))
    shutil.copytree(folder, other, dirs_exist_ok=True)

    def find_duplicates():
        return {c.case_id for c in check() if "duplicated image" in c.fault_names("error")}

    assert find_duplicates() == {"case_00001", "case_00002"}
    edit(other / IMAGE, lambda image: set_voxel(image, (1, 2, 3), 0.01))
    assert find_duplicates() == set()


def test_the_worst_come_first(check, root):
    """Errors count more than warnings, and then the case's number decides."""
    FAULTS["shifted HU"](root / "case_00001")
    FAULTS["empty label"](root / "case_00002")
    FAULTS["unsigned HU"](root / "case_00003")
    FAULTS["empty label"](root / "case_00003")
    grades = [(case.case_id, case.grade) for case in check()]
    assert grades == [
        ("case_00003", "error"), ("case_00002", "error"), ("case_00001", "warning"),
        ("case_00000", "clean"),
    ]  # fmt: skip


def test_a_case_that_fails_ends_no_other(check, monkeypatch, tmp_path):
    """Whatever happens to one case, the others are checked and it has an error."""
    from kitsjax.check import check_cases as module

    examine = module.examine_case

    def fail(case, **more):
        if case.seed == 2:
            raise MemoryError("no room")
        return examine(case, **more)

    monkeypatch.setattr(module, "examine_case", fail)
    first, *rest = check()
    assert (first.case_id, first.grade) == ("case_00002", "error")
    assert first.findings[0].name == "unreadable file"
    assert "MemoryError: no room" in first.findings[0].text
    assert [case.grade for case in rest] == ["clean"] * 3
    assert "MemoryError" in (tmp_path / "output" / "errors.log").read_text()


def test_findings_are_sorted_by_grade():
    found = sort_findings(Finding(name, "") for name in reversed(GRADES))
    grades = [finding.grade for finding in found]
    assert grades == sorted(grades)
    assert [finding.name for finding in found] == list(GRADES)


def test_a_fault_counts_once_for_a_case():
    """Ten annotations on another grid are one kind of fault."""
    many = CheckedCase("case_00001", (Finding("grid mismatch", ""),) * 10)
    two = CheckedCase("case_00002", (Finding("NaN", ""), Finding("empty label", "")))
    assert many.fault_names("error") == ["grid mismatch"]
    assert sort_cases([many, two]) == [two, many]
