"""Scoring against its peer: what is scored is like a prediction, and both sides agree on it."""

import numpy as np
import pytest

from benchmarks import score
from benchmarks.part import Job
from kitsjax.evaluate.scoring import score as score_labels
from kitsjax.labels import KIDNEY, TUMOR

SMALL = (250, 48, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("score")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "SHAPE", SMALL)
        score.PART.prepare(Job(path, "small", "good", 1))
    return path


def test_a_prediction_is_near_its_label_but_not_it():
    label = np.zeros((60, 80, 80), np.uint8)
    label[15:45, 20:60, 20:60] = KIDNEY
    label[20:30, 20:40, 20:40] = TUMOR
    prediction = score.draw_prediction(label)

    assert set(np.unique(prediction)) == {0, KIDNEY, TUMOR}
    found = score_labels(prediction, label, score.SPACING_MM)["kidney_and_mass"]
    assert 0.85 < found.dice < 0.99
    assert 0.8 < found.hausdorff95_mm < 5
    np.testing.assert_array_equal(prediction, score.draw_prediction(label))


def test_a_stray_prediction_has_two_far_voxels_and_a_shifted_one_is_moved_whole():
    prediction = np.zeros((8, 50, 8), np.uint8)
    prediction[4, 4, 4] = KIDNEY

    stray = score.spoil(prediction.copy(), "stray")
    assert np.argwhere(stray == TUMOR).tolist() == [[0, 0, 0], [7, 49, 7]]
    assert np.argwhere(score.spoil(prediction, "shifted")).tolist() == [[4, 24, 4]]
    np.testing.assert_array_equal(score.spoil(prediction, "good"), prediction)


def test_differences_are_over_what_the_peer_scored():
    ours = [{"mass": (0.9, 0.8, 3.0), "tumor": (1.0, 1.0, 0.0)}, {"mass": (0.5, 0.5, 9.0)}]

    assert score.largest_difference(ours, [{"mass": (0.9, 0.8, 3.0)}]) == 0
    assert score.largest_difference(ours, [{"mass": (0.9, 0.8, 3.5)}]) == 0.5


@pytest.mark.parametrize("variant", score.PART.variants)
def test_both_sides_give_the_same_scores(variant, folder, monkeypatch):
    pytest.importorskip("surface_distance", reason="the peer, of the extra [bench]")
    monkeypatch.setattr(score, "SHAPE", SMALL)
    job = Job(folder, "small", variant, 1)

    ours, peer = (side.run(job) for side in score.PART.sides)

    assert len(ours.seconds) > 1
    truths, classes = {"stray": (1, 1)}.get(variant, (4, 3))
    assert peer.values == {"scaled from": f"{truths * classes} of 48 comparisons"}
    (difference,) = score.PART.check(job).values()
    assert difference < 1e-9
