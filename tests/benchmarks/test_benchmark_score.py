import numpy as np
import pytest

from benchmarks import inputs, score
from benchmarks.definition import Job
from kitsjax.evaluate.score_volumes import score as score_labels
from kitsjax.labels import KIDNEY, TUMOR

SMALL = (250, 32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("score")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "SHAPE", SMALL)
        # One of the first three cases has the slices.
        patch.setattr(inputs, "_CANDIDATES", 3)
        score.BENCHMARK.prepare(Job(path, "small", "good", 1))
    return path


def test_a_prediction_is_near_its_label():
    label = np.zeros((60, 80, 80), np.uint8)
    label[15:45, 20:60, 20:60] = KIDNEY
    label[20:30, 20:40, 20:40] = TUMOR
    prediction = score.make_prediction(label)

    assert set(np.unique(prediction)) == {0, KIDNEY, TUMOR}
    found = score_labels(prediction, label, score.SPACING_MM)["kidney_and_mass"]
    assert 0.85 < found.dice < 0.99
    assert 0.8 < found.hausdorff95_mm < 5
    np.testing.assert_array_equal(prediction, score.make_prediction(label))


def test_predictions_are_spoiled():
    prediction = np.zeros((8, 50, 8), np.uint8)
    prediction[4, 4, 4] = KIDNEY

    stray = score.spoil(prediction.copy(), "stray")
    assert np.argwhere(stray == TUMOR).tolist() == [[0, 0, 0], [7, 49, 7]]
    assert np.argwhere(score.spoil(prediction, "shifted")).tolist() == [[4, 24, 4]]
    np.testing.assert_array_equal(score.spoil(prediction, "good"), prediction)


def test_differences_are_of_what_both_scored():
    ours = [{"mass": (0.9, 0.8, 3.0), "tumor": (1.0, 1.0, 0.0)}, {"mass": (0.5, 0.5, 9.0)}]

    assert score.largest_difference(ours, [{"mass": (0.9, 0.8, 3.0)}]) == 0
    assert score.largest_difference(ours, [{"mass": (0.9, 0.8, 3.5)}]) == 0.5


@pytest.mark.filterwarnings("ignore:Please import")  # surface-distance uses old names
@pytest.mark.parametrize("variant", score.BENCHMARK.variants)
def test_both_contenders_give_the_same_scores(variant, folder, monkeypatch):
    pytest.importorskip("surface_distance", reason="the baseline, of the extra [bench]")
    monkeypatch.setattr(score, "SHAPE", SMALL)
    job = Job(folder, "small", variant, 1)

    ours, theirs = (contender.run(job) for contender in score.BENCHMARK.contenders)

    assert len(ours.seconds) > 1
    truths, classes = {"stray": (1, 1)}.get(variant, (4, 3))
    assert theirs.values == {"scaled from": f"{truths * classes} of 48 comparisons"}
    (difference,) = score.BENCHMARK.check(job).values()
    assert difference < 1e-9
