"""Label schemes other than KiTS's: scored, written, read back, and judged by the right scheme."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from label_schemes import LESIONS, LIVER, SPLEEN
from predicted_folder import SPACING_MM, Folders, draw, merge, write, write_case

from kitsjax.data.kits import find_cases
from kitsjax.errors import InputError
from kitsjax.evaluate.evaluation import evaluate
from kitsjax.evaluate.lesions import find_lesions
from kitsjax.evaluate.outcomes import OUTCOMES, count_outcomes, describe_case, list_outcomes
from kitsjax.evaluate.read_results import read_evaluation
from kitsjax.evaluate.results import Lesion
from kitsjax.evaluate.write_results import write_evaluation
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY

LIVER_VALUE, TUMOR_VALUE, VESSEL_VALUE, IGNORE = 1, 2, 3, 4
SHAPE = (6, 16, 20)


def liver_label():
    label = np.zeros(SHAPE, np.uint8)
    label[1:5, 2:14, 2:18] = LIVER_VALUE
    label[1:3, 3:7, 3:7] = TUMOR_VALUE
    label[3, 8:12, 8:12] = TUMOR_VALUE
    label[4, 3:5, 3:17] = VESSEL_VALUE
    label[5] = IGNORE
    return label


@pytest.fixture
def liver(tmp_path):
    """Two cases of a liver, the second one without its vessel, and what is predicted of them."""
    folders = Folders(tmp_path / "data", tmp_path / "predictions")
    for number in range(2):
        truth = liver_label()
        truth[truth == VESSEL_VALUE] = VESSEL_VALUE if number == 0 else LIVER_VALUE
        predicted = np.where(truth == IGNORE, TUMOR_VALUE, truth)
        # The larger tumor is found, the smaller one is not.
        predicted[3][predicted[3] == TUMOR_VALUE] = LIVER_VALUE
        write(folders.data / f"case_{number:05d}" / "segmentation.nii.gz", truth)
        write(folders.predictions / f"case_{number:05d}.nii.gz", predicted)
    return folders


def run(folders, scheme, **options):
    cases = find_cases(folders.data, images=False)
    return evaluate(cases, folders.predictions, workers=1, scheme=scheme, **options)


def test_the_scores_of_a_liver(liver):
    found = run(liver, LIVER)
    assert not found.failures
    assert found.against == [MAJORITY]
    dice, volume = found.table(MAJORITY), found.table(MAJORITY, "truth_cm3")
    assert list(dice) == ["liver_and_all", "tumor", "vessel"]
    assert set(dice["liver_and_all"].values()) == {1}
    # Of 2 * 16 + 16 voxels of tumors 32 are found; the ignored slice is predicted as tumor.
    assert list(dice["tumor"].values()) == pytest.approx([2 * 32 / (48 + 32)] * 2)
    assert list(dice["vessel"].values()) == [1, 1]
    assert list(volume["vessel"].values()) == pytest.approx([28 * math.prod(SPACING_MM) / 1000, 0])
    assert {score.lesions for score in found.scores} == {2}
    assert [(each.label, each.number, each.outcome) for each in found.lesions] == [
        ("tumor", 1, "detected"), ("tumor", 2, "missed"),
    ] * 2  # fmt: skip
    assert found.scheme == LIVER


def test_values_outside_the_scheme_are_refused(liver):
    """A label map that another scheme allows is refused, and the other case is scored."""
    write(liver.predictions / "case_00000.nii.gz", np.full(SHAPE, IGNORE))
    found = run(liver, LIVER)
    ((case_id, message),) = found.failures
    assert case_id == "case_00000"
    assert "label values 4 are not among 0, 1, 2, 3" in message
    assert found.case_ids == ["case_00001"]
    assert [failure.case_id for failure in run(liver, KITS).failures] == [
        "case_00000",
        "case_00001",
    ]


def test_a_case_of_which_nothing_is_known_fails(liver):
    """Two empty masks would score 1, whatever is predicted; the other case is scored."""
    write(liver.data / "case_00001" / "segmentation.nii.gz", np.full(SHAPE, IGNORE))
    found = run(liver, LIVER)
    ((case_id, message),) = found.failures
    assert case_id == "case_00001"
    assert "segmentation.nii.gz: every voxel has the value to ignore, 4" in message
    assert found.case_ids == ["case_00000"]


def test_samples_leave_out_ignored_voxels(tmp_path):
    """All annotators are right, and nothing is found where the label says to ignore them."""
    folders, masks = Folders(tmp_path / "data", tmp_path / "predictions"), draw(0)
    truth, known = merge(masks), np.arange(SHAPE[0])[:, None, None] < 2
    assert truth[2:].any()
    folder = write_case(folders.data, 0)
    write(folder / "aggregated_MAJ_seg.nii.gz", np.where(known, truth, IGNORE))
    for kind, mask in masks.items():
        for path in folder.glob(f"segmentations/{kind}*"):
            write(path, mask)
    write(folders.predictions / "case_00000.nii.gz", np.where(known, truth, 0))
    found = run(folders, replace(KITS, ignore=IGNORE))
    assert found.against == [MAJORITY, INDIVIDUAL]
    assert {score[4:6] for score in (*found.scores, *found.samples)} == {(1, 1)}
    volumes = {
        found.table(against, "truth_cm3")["tumor"]["case_00000"] for against in found.against
    }
    assert volumes == {(truth[:2] == 2).sum() * math.prod(SPACING_MM) / 1000}


def test_samples_are_of_kits_labels_only(folders):
    """A KiTS21 folder has annotations; with other names of its labels they are passed over."""
    renamed = replace(KITS, names=("background", "organ", "mass", "cavity"))
    found = run(folders, renamed)
    assert found.against == [MAJORITY]
    assert not found.samples
    assert {lesion.label for lesion in found.lesions} == {"mass", "cavity"}
    with pytest.raises(InputError, match="annotation samples are made of KiTS21's labels only"):
        run(folders, renamed, against=[INDIVIDUAL])


@pytest.mark.parametrize(
    "scheme", [LIVER, replace(LIVER, names=("background", 'a, "b"', "c", "d"))]
)
def test_an_evaluation_keeps_its_scheme(liver, tmp_path, scheme):
    found = run(liver, scheme)
    write_evaluation(tmp_path / "scores", found)
    # Not a number differs from itself.
    assert repr(read_evaluation(tmp_path / "scores")) == repr(found)
    assert not list((tmp_path / "scores").glob("evaluation*.csv")), "these are KiTS21's own"


def test_results_are_judged_by_their_scheme(liver, tmp_path):
    write_evaluation(tmp_path, run(liver, LIVER))
    path = tmp_path / "evaluation.json"
    about = json.loads(path.read_text())

    def refusal(**labels):
        path.write_text(json.dumps(about | {"labels": about["labels"] | labels}))
        with pytest.raises(InputError) as error:
            read_evaluation(tmp_path)
        return str(error.value)

    assert "line 4: evaluation_class is 'vessel'" in refusal(
        evaluation=about["labels"]["evaluation"][:2]
    )
    assert "lesions.csv: not as evaluate.py wrote it (line 2: label is 'tumor')" in refusal(
        lesions=[]
    )
    assert f"{path}: not as evaluate.py wrote it (ignore = 7: must be 4" in refusal(ignore=7)
    assert f"{path}: not as evaluate.py wrote it (names is 5)" in refusal(names=5)


def test_results_without_a_scheme_are_of_kits(tmp_path, evaluation):
    """Format 2 had no labels, and called the number of lesions that of tumors."""
    write_evaluation(tmp_path, evaluation)
    path = tmp_path / "evaluation.json"
    about = json.loads(path.read_text())
    del about["labels"]
    path.write_text(json.dumps(about | {"format": 2}))
    for name in ("scores.csv", "samples.csv"):
        table = tmp_path / name
        table.write_text(table.read_text().replace("truth_cm3,lesions", "truth_cm3,tumors"))
    found = read_evaluation(tmp_path)
    assert repr(found) == repr(evaluation)
    assert found.scheme == KITS
    path.write_text(json.dumps(about | {"format": 3}))
    with pytest.raises(InputError, match=r"evaluation\.json: .*\(no labels\)"):
        read_evaluation(tmp_path)


def test_any_two_lesion_labels_can_be_mistaken():
    """The first is taken for the second, the second for the third, the third is found."""
    truth, prediction = np.zeros((2, 10, 10, 10), np.uint8)
    for at, (true, predicted) in enumerate(((2, 3), (3, 4), (4, 4))):
        block = slice(3 * at, 3 * at + 2)
        truth[block, 2:6, 2:6], prediction[block, 2:6, 2:6] = true, predicted
    truth[9], prediction[9] = 1, 1
    rows = find_lesions("case_00000", prediction, truth, 1.0, LESIONS)
    assert [(row.label, row.outcome, row.misclassified) for row in rows] == [
        ("nodule", "misclassified", 1), ("metastasis", "misclassified", 1), ("cyst", "detected", 0),
    ]  # fmt: skip
    assert describe_case(rows, LESIONS) == (
        "nodule 0.03 cm³ misclassified; metastasis 0.03 cm³ misclassified"
    )


def test_lesions_of_low_values_are_found():
    """The organ's value is above that of its lesion."""
    scheme = replace(LIVER, lesions=(1,))
    truth = np.full((6, 6, 6), VESSEL_VALUE, np.uint8)
    truth[1:4, 1:4, 1:4] = LIVER_VALUE
    (row,) = find_lesions("case_00000", truth, truth, 8.0, scheme)
    assert row[1:7] == ("truth", "liver", 1, 27 * 8 / 1000, "detected", 1)
    assert row.excess == row.misclassified == 0


def test_a_scheme_without_lesions_has_none():
    label = np.ones((4, 4, 4), np.uint8)
    assert find_lesions("case_00000", label, label, 8.0, SPLEEN) == []
    assert count_outcomes([], SPLEEN) == {}


def test_outcomes_are_in_the_schemes_words():
    assert list_outcomes(KITS) == OUTCOMES
    assert "misclassified" not in list_outcomes(LIVER), "there is a single lesion label"
    assert list_outcomes(LESIONS)["misclassified"].endswith("has another lesion's label")
    two = replace(LESIONS, lesions=(2, 3))
    assert list_outcomes(two)["misclassified"].endswith("has the other lesion's label")
    for scheme in (LIVER, LESIONS, two):
        assert not any("mass" in meaning for meaning in list_outcomes(scheme).values())
    row = Lesion("case_00000", "truth", "tumor", 1, 2.0, "missed", 0.0, math.nan, math.nan, 7)
    assert count_outcomes([row], LIVER)["tumor"]["missed"] == 1
