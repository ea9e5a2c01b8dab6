from dataclasses import replace

import numpy as np
from example_cases import SHAPE, block, lesion

from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import CYST, KIDNEY, KITS, TUMOR
from kitsjax.report.slices import plot_best
from kitsjax.report.views import best_slice, find_files, worst_slice


def test_best_slice_shows_most_tumor():
    """Or else most cyst, or else most kidney."""
    nothing = np.zeros(SHAPE, np.uint8)
    kidney, cyst, tumor = block(KIDNEY, z=1), block(CYST, z=3, y=60), block(TUMOR, z=5, x=70)
    assert best_slice(nothing, kidney, KITS) == 1
    assert best_slice(nothing, kidney | cyst, KITS) == 3
    assert best_slice(nothing, kidney | cyst | tumor, KITS) == 5
    assert best_slice(tumor, nothing, KITS) == 5
    assert best_slice(nothing, nothing, KITS) == 3
    tumor[2] = TUMOR
    assert best_slice(nothing, tumor, KITS) == 2


def test_worst_slice_shows_the_largest_failure():
    truth = block(TUMOR, z=1)
    nothing = np.zeros(SHAPE, np.uint8)
    assert worst_slice(nothing, truth, [], KITS) == 1, "the most wrong voxels"
    assert worst_slice(truth, truth, [], KITS) == 1, "nothing is wrong"
    small, large = lesion(volume_cm3=1.0, z=3), lesion(volume_cm3=2.0, outcome="misclassified", z=4)
    assert worst_slice(nothing, truth, [small, large], KITS) == 4
    assert (
        worst_slice(nothing, truth, [small, lesion(volume_cm3=9.0, outcome="detected")], KITS) == 3
    )
    assert worst_slice(nothing, truth, [small, lesion(volume_cm3=9.0, label="cyst")], KITS) == 3
    assert worst_slice(nothing, truth, [small, lesion(outcome="under-segmented")], KITS) == 1
    assert worst_slice(nothing, truth, [lesion(z=99)], KITS) == SHAPE[0] - 1


def test_files_are_those_of_predicted_cases(tmp_path):
    """Files of cases that are predicted and in the data set; a CT may be missing."""
    dataset, predictions = tmp_path / "data", tmp_path / "predictions"
    for case_id in ("case_00002", "case_00005"):
        (dataset / case_id).mkdir(parents=True)
        (dataset / case_id / "segmentation.nii.gz").touch()
    predictions.mkdir()
    for case_id in ("case_00001", "case_00002"):
        (predictions / f"{case_id}.nii.gz").touch()
    found = find_files(predictions, dataset)
    assert list(found) == ["case_00002"]
    assert found["case_00002"].image is None
    assert found["case_00002"].truth == dataset / "case_00002" / "segmentation.nii.gz"
    assert found["case_00002"].prediction == predictions / "case_00002.nii.gz"


def test_a_case_may_lack_its_label(tmp_path):
    """A label that was made of annotations is scored, and no file shows it."""
    annotations = tmp_path / "data" / "case_00001" / "segmentations"
    annotations.mkdir(parents=True)
    (annotations / "kidney_instance-1_annotation-1.nii.gz").touch()
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "case_00001.nii.gz").touch()
    found = find_files(tmp_path / "predictions", tmp_path / "data")
    assert found["case_00001"].truth is None


def test_files_are_of_the_layout_that_was_scored(tmp_path):
    """The folder fits two layouts, so that it must be known which one was scored."""
    for name in ("images", "labels", "case_00001", "predictions"):
        (tmp_path / name).mkdir()
    for name in ("images", "labels", "predictions"):
        (tmp_path / name / "scan.nii.gz").touch()
    found = find_files(tmp_path / "predictions", tmp_path, "pairs")
    assert found["scan"].truth == tmp_path / "labels" / "scan.nii.gz"
    scored = Evaluation(predictions=str(tmp_path / "predictions"), dataset=str(tmp_path))
    assert "fits several layouts" in plot_best(scored).caption
    assert "fits several layouts" not in plot_best(replace(scored, layout="pairs")).caption
