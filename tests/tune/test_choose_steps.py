"""The choice among steps whose scores are made up, so that the right one is known."""

import numpy as np
import pytest

from kitsjax.infer.postprocess import STEPS
from kitsjax.labels import KITS
from kitsjax.report.table_format import to_text
from kitsjax.tune.choose_steps import choose_steps, chosen_steps, total_gain, trial_table
from kitsjax.tune.score_steps import VALUES, list_choices

CASES = 8


def make_scores(gain, present=None):
    """Scores (case, choice, class, 2) of 0.5, and what `gain(steps, case)` adds to all of them."""
    choices = list_choices(present or {})
    gains = [
        [gain(dict(zip(STEPS, choice, strict=True)), case) for choice in choices]
        for case in range(CASES)
    ]
    return np.full((CASES, len(choices), 3, 2), 0.5) + np.array(gains)[:, :, None, None], choices


def test_every_step_is_tried():
    assert list(VALUES) == list(STEPS)
    choices = list_choices({})
    assert choices[0] == (False, 0.0, 0.0, 0.0, 0, "")
    assert len(choices) == len(set(choices)) == 2 * 3 * 3 * 3 * 2 * 3
    for present in ({"least_organ_ml": 1.0}, {"least_organ_ml": 3.0, "fill_holes": "volume"}):
        chosen = dict(zip(STEPS, list_choices(present)[0], strict=True))
        assert chosen == {name: present.get(name, type(VALUES[name][0])()) for name in STEPS}


def test_steps_that_help_are_added_by_their_gain():
    """Two help, of one of them its larger value most; the others change nothing or harm."""

    def gain(steps, case):
        scale = 1 + case / 10
        found = {0.0: 0.0, 1.0: 0.02, 10.0: 0.05}[steps["least_organ_ml"]]
        found += 0.01 * (steps["fill_holes"] == "volume")
        return scale * (found - 0.03 * (steps["least_lesion_ml"] > 0))

    scores, choices = make_scores(gain)
    rounds = choose_steps(scores, choices)
    steps = chosen_steps(rounds)
    assert list(steps.items()) == [("least_organ_ml", 10.0), ("fill_holes", "volume")]
    assert rounds[-1].kept is None
    first = rounds[0].kept
    assert (first.better, first.worse) == (CASES, 0)
    np.testing.assert_allclose(first.classes, 0.05 * 1.35)
    np.testing.assert_allclose(total_gain(scores, choices, steps).mean, 0.06 * 1.35)
    harmful = next(trial for trial in rounds[0].trials if trial.name == "least_lesion_ml")
    assert (harmful.better, harmful.worse) == (0, CASES)
    text = to_text(trial_table(rounds, CASES, KITS))
    assert "1: least_organ_ml = 10.0 *" in text
    assert "2: fill_holes = volume *" in text
    assert "3: lesions_touch_organ = True " in text


def test_a_gain_by_chance_is_not_kept():
    """One case gains much, two lose little: the mean rises, but the interval holds 0."""

    def gain(steps, case):
        return {0: 0.3, 1: -0.01, 2: -0.01}.get(case, 0.0) if steps["largest_components"] else 0.0

    scores, choices = make_scores(gain)
    rounds = choose_steps(scores, choices)
    trial = next(each for each in rounds[0].trials if each.name == "largest_components")
    assert trial.gain.mean > 0
    assert (trial.better, trial.worse) == (1, 2)
    assert chosen_steps(rounds) == {}


def test_nothing_helps_perfect_predictions():
    scores, choices = make_scores(lambda steps, case: 0.0)
    rounds = choose_steps(scores, choices)
    assert (len(rounds), chosen_steps(rounds)) == (1, {})
    assert total_gain(scores, choices, {}).mean == 0


@pytest.mark.parametrize("cases", [1, 2, 5, 6, 8])
def test_few_cases_choose_nothing(cases):
    """Changes of one sign have an interval without 0, however few they are."""
    scores, choices = make_scores(lambda steps, case: 0.1 * steps["lesions_touch_organ"])
    rounds = choose_steps(scores[:cases], choices)
    assert chosen_steps(rounds) == ({"lesions_touch_organ": True} if cases >= 6 else {})
    text = to_text(trial_table(rounds, cases, KITS))
    assert "nan" not in text


def test_few_cases_that_change_choose_nothing():
    """Other cases, however many, say nothing of a step that leaves them as they are."""

    def gain(steps, case):
        return 0.1 * (steps["lesions_touch_organ"] and case < 5)

    scores, choices = make_scores(gain)
    assert chosen_steps(choose_steps(scores, choices)) == {}
