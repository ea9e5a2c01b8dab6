"""Steps of post-processing, on label maps whose right results are drawn by hand."""

import numpy as np
import pytest

from kitsjax.infer.postprocess import STEPS, get_steps, keep_choice, postprocess
from kitsjax.labels import BACKGROUND, CYST, KIDNEY, KITS, TUMOR, EvaluationClass, LabelScheme
from kitsjax.settings import PredictSettings

VOXEL_MM3 = 500.0

LESIONS_FIRST = LabelScheme(
    ("background", "tumor", "liver"),
    (EvaluationClass("tumor", "Tumor", (1,), 1.0),),
    lesions=(1,),
)

LESIONS_ALONE = LabelScheme(
    ("background", "tumor"), (EvaluationClass("tumor", "Tumor", (1,), 1.0),), lesions=(1,)
)


def apply(label, **steps):
    # Prediction may give an array that must not be written to.
    label.flags.writeable = False
    found = postprocess(label, VOXEL_MM3, PredictSettings(**steps), KITS)
    assert found.dtype == np.uint8
    return found


def draw(*rows):
    """A label map of one slice: a digit a voxel, "." for the background."""
    return np.array([[list(row.replace(".", "0")) for row in rows]], np.uint8)


def two_kidneys():
    """Return a map with kidneys of 4 ml and 1 ml, each with a tumor, and a cyst on its own."""
    label = np.zeros((6, 8, 12), np.uint8)
    label[1:3, 1:3, 1:3] = KIDNEY
    # It touches the kidney by a corner alone.
    label[3, 3, 3] = TUMOR
    label[1, 1, 8:10] = KIDNEY
    label[1, 2, 8:10] = TUMOR
    label[5, 6:8, 9:12] = CYST
    return label


CYST_ALONE = np.s_[5, 6:8, 9:12]


@pytest.mark.parametrize(
    ("least_organ_ml", "removed"),
    [
        (0.0, []),
        (0.1, [CYST_ALONE]),
        (1.0, [CYST_ALONE]),
        (1.1, [CYST_ALONE, np.s_[1, 1:3, 8:10]]),
        (4.0, [CYST_ALONE, np.s_[1, 1:3, 8:10]]),
        (4.1, [np.s_[:]]),
    ],
)
def test_components_need_kidney(least_organ_ml, removed):
    expected = two_kidneys()
    for part in removed:
        expected[part] = BACKGROUND
    found = apply(two_kidneys(), least_organ_ml=least_organ_ml)
    np.testing.assert_array_equal(found, expected)


def test_lesions_need_to_touch_the_organ():
    """A corner is enough, and a tumor that touches a cyst on the organ is one lesion with it."""
    label, expected = two_kidneys(), two_kidneys()
    label[4, 4, 4] = expected[4, 4, 4] = CYST
    expected[CYST_ALONE] = BACKGROUND
    np.testing.assert_array_equal(apply(label, lesions_touch_organ=True), expected)


def test_small_lesions_become_what_is_around():
    """One of 0.5 and one of 1 ml at a kidney become kidney; 3 ml on its own becomes background."""
    expected = two_kidneys()
    expected[3, 3, 3] = KIDNEY
    np.testing.assert_array_equal(apply(two_kidneys(), least_lesion_ml=1.0), expected)
    expected[1, 2, 8:10] = KIDNEY
    np.testing.assert_array_equal(apply(two_kidneys(), least_lesion_ml=3.0), expected)
    expected[CYST_ALONE] = BACKGROUND
    np.testing.assert_array_equal(apply(two_kidneys(), least_lesion_ml=3.1), expected)


def test_a_speck_in_a_cyst_is_part_of_it():
    label = draw("11333", "11323", "11333")
    np.testing.assert_array_equal(apply(label, least_lesion_ml=1.0), label)


@pytest.mark.parametrize(
    ("least", "rows"),
    [
        # The tumor at the kidney has a mean of 0.75, its part of 0.5 included; the cyst 0.5.
        (0.5, ("112.33", "122...", "......")),
        (0.6, ("112...", "122...", "......")),
        (0.75, ("112...", "122...", "......")),
        (0.76, ("111...", "111...", "......")),
    ],
)
def test_unsure_lesions_become_what_is_around(least, rows):
    label = draw("112.33", "122...", "......")
    label.flags.writeable = False
    certainty = np.array([0.75, 0.75, 0.25, 1.0, 0.5], np.float32)
    settings = PredictSettings(least_lesion_certainty=least)
    found = postprocess(label, VOXEL_MM3, settings, KITS, certainty)
    np.testing.assert_array_equal(found, draw(*rows))


@pytest.mark.parametrize(
    ("least", "left"), [(0.5, "12..2.11"), (0.7, "12..2..."), (0.9, "22..2...")]
)
def test_unsure_lesions_of_other_schemes(least, left):
    """The organ may come after the lesions; without one they become background."""
    certainty, settings = np.float32([0.8, 0.5, 0.7]), PredictSettings(least_lesion_certainty=least)
    found = postprocess(draw("12..2.11"), VOXEL_MM3, settings, LESIONS_FIRST, certainty)
    np.testing.assert_array_equal(found, draw(left))
    found = postprocess(draw("1..11"), VOXEL_MM3, settings, LESIONS_ALONE, certainty)
    np.testing.assert_array_equal(found, draw({0.5: "1..11", 0.7: "1....", 0.9: "....."}[least]))


def test_nothing_is_unsure_without_lesions():
    label, settings = draw("11.1"), PredictSettings(least_lesion_certainty=0.9)
    assert postprocess(label, VOXEL_MM3, settings, KITS, np.zeros(0, np.float32)) is label


@pytest.mark.parametrize(
    ("share", "rows"),
    [
        (0.0, ("12231.33", "12231.22", "..2.1...")),
        # Five of seven and two of four: of equally many the lower label.
        (0.5, ("12221.22", "12221.22", "..2.1...")),
        (0.7, ("12221.33", "12221.22", "..2.1...")),
        (0.8, ("12231.33", "12231.22", "..2.1...")),
    ],
)
def test_a_lesion_gets_its_most_frequent_label(share, rows):
    label = draw("12231.33", "12231.22", "..2.1...")
    np.testing.assert_array_equal(apply(label, lesion_majority=share), draw(*rows))


def test_a_cyst_may_be_the_majority():
    """Labels that are no lesions stay, and so does a lesion of one label."""
    label, cyst = draw("132.2", "133.2", "131.1"), draw("133.2", "133.2", "131.1")
    np.testing.assert_array_equal(apply(label, lesion_majority=0.5), cyst)
    kidneys = draw("11..1", "11.11")
    np.testing.assert_array_equal(apply(kidneys, lesion_majority=0.5), kidneys)


def test_the_majority_of_other_schemes():
    """Three lesion labels, of which none has a half; and a scheme without any."""
    label = draw("52341", "52341", "2...1")
    names, every = ("background", "organ", "a", "b", "c", "d"), (1, 2, 3, 4, 5)
    scheme = LabelScheme(names, (EvaluationClass("all", "All", every, 1.0),), lesions=(5, 4, 3, 2))
    for share, rows in ((0.3, ("22221", "22221", "2...1")), (0.5, ("52341", "52341", "2...1"))):
        found = postprocess(label, VOXEL_MM3, PredictSettings(lesion_majority=share), scheme)
        np.testing.assert_array_equal(found, draw(*rows))
    tie = PredictSettings(lesion_majority=0.5)
    np.testing.assert_array_equal(postprocess(draw("55331"), VOXEL_MM3, tie, scheme), draw("33331"))
    organs = LabelScheme(names[:3], (EvaluationClass("all", "All", (1, 2), 1.0),))
    found = postprocess(draw("112"), VOXEL_MM3, PredictSettings(lesion_majority=0.5), organs)
    np.testing.assert_array_equal(found, draw("112"))


@pytest.mark.parametrize(
    ("count", "rows"),
    [
        (1, ("111...", "112...", "......", "......")),
        (2, ("111..1", "112..1", ".....1", "......")),
        # Of the two single voxels the first one stays.
        (3, ("111..1", "112..1", ".....1", ".3....")),
        (9, ("111..1", "112..1", ".....1", ".3.2..")),
    ],
)
def test_the_largest_components_stay(count, rows):
    label = draw("111..1", "112..1", ".....1", ".3.2..")
    np.testing.assert_array_equal(apply(label, largest_components=count), draw(*rows))


def test_holes_get_the_label_around_them():
    """The second has more tumor around it than kidney; the third space is open at its top.

    A slice on its own encloses nothing in the volume.
    """
    label = draw("1111.222..", "1..1.2.1.1", "1111.221.1", ".......111")
    filled = draw("1111.222..", "1111.221.1", "1111.221.1", ".......111")
    filled[0, 1, 6] = TUMOR
    np.testing.assert_array_equal(apply(label, fill_holes="slices"), filled)
    np.testing.assert_array_equal(apply(label, fill_holes="volume"), label)


def test_holes_of_the_volume():
    """A hollow ball is filled on all sides; a pipe is open, but each of its slices is enclosed."""
    label = np.zeros((5, 12, 6), np.uint8)
    label[:, 0:5, 0:5] = KIDNEY
    label[1:4, 1:4, 1:4] = BACKGROUND
    label[2, 2, 2] = TUMOR
    label[:, 6:9, 0:3] = KIDNEY
    label[:, 7, 1] = BACKGROUND
    ball = label.copy()
    ball[:, 0:5, 0:5][ball[:, 0:5, 0:5] == BACKGROUND] = KIDNEY
    np.testing.assert_array_equal(apply(label.copy(), fill_holes="volume"), ball)
    both = ball.copy()
    both[:, 7, 1] = KIDNEY
    np.testing.assert_array_equal(apply(label.copy(), fill_holes="slices"), both)


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_a_setting_that_is_off(name):
    """None is on by default, none changes an empty map, and none writes to its argument."""
    assert not getattr(PredictSettings(), name)
    value = {
        "lesions_touch_organ": True, "lesion_majority": 0.5, "largest_components": 1,
        "fill_holes": "volume",
    }  # fmt: skip
    on = {name: value.get(name, 1.5)}
    assert get_steps(PredictSettings(**on)) == on
    assert not apply(np.zeros((3, 4, 5), np.uint8), **on).any()
    for memory in "CF":
        label = np.asarray(two_kidneys(), order=memory)
        found = apply(label, **on)
        np.testing.assert_array_equal(label, two_kidneys())
        assert found.flags[f"{memory}_CONTIGUOUS"]


def test_steps_are_applied_in_their_order():
    """A lesion that is too small becomes kidney, which its component then has enough of."""
    label = draw("112...", "......")
    assert apply(label, least_lesion_ml=1.0, least_organ_ml=1.5).any()
    assert not apply(label, least_organ_ml=1.5).any()
    assert apply(label) is label


def test_the_scheme_says_what_is_organ_and_lesion():
    scheme = LabelScheme(
        ("background", "liver", "vessel", "tumor"),
        (EvaluationClass("liver", "Liver", (1, 2, 3), 1.0),),
        lesions=(3,),
    )
    label = draw("11.2..3", "11.23..", "113....")
    found = postprocess(label, VOXEL_MM3, PredictSettings(lesions_touch_organ=True), scheme)
    # Tumor in the vessel touches no liver.
    np.testing.assert_array_equal(found, draw("11.2...", "11.2...", "113...."))


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ({"lesions_touch_organ": True}, "12..2..."),
        ({"least_lesion_ml": 0.6}, "22..2.11"),
        ({"least_lesion_ml": 1.1}, "22..2..."),
        ({"least_organ_ml": 0.4}, "12..2..."),
    ],
)
def test_the_organ_may_come_after_the_lesions(steps, left):
    label, settings = draw("12..2.11"), PredictSettings(**steps)
    found = postprocess(label, VOXEL_MM3, settings, LESIONS_FIRST)
    np.testing.assert_array_equal(found, draw(left))


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ({"lesions_touch_organ": True}, "1...11"),
        ({"least_lesion_ml": 0.6}, "....11"),
        ({"least_organ_ml": 0.6}, "1...11"),
    ],
)
def test_a_scheme_of_lesions_has_no_organ(steps, left):
    """Small lesions go all the same, into the background."""
    found = postprocess(draw("1...11"), VOXEL_MM3, PredictSettings(**steps), LESIONS_ALONE)
    np.testing.assert_array_equal(found, draw(left))


def test_a_models_chosen_steps_are_its_own():
    settings = PredictSettings(least_organ_ml=1.0, mirror=True)
    assert keep_choice(settings, {"versions": {}}) == settings
    chosen = {"postprocess": {"steps": {"largest_components": 2, "least_organ_ml": 5.0}}}
    assert keep_choice(settings, chosen) == PredictSettings(
        least_organ_ml=5.0, largest_components=2, mirror=True
    )
