"""Classes that some cases lack are reported apart, wherever scores are."""

import csv
import math
from dataclasses import replace
from io import StringIO

import pytest
from example_scores import SIX
from label_schemes import LIVER

from kitsjax.evaluate.absent_classes import AbsentClass, find_absent_classes
from kitsjax.evaluate.results import Evaluation, Score
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY
from kitsjax.report.absent_table import absent_table, describe_absent
from kitsjax.report.mean_scores import score_means
from kitsjax.report.report import make_tables
from kitsjax.report.result_tables import score_table
from kitsjax.report.table_format import to_csv, to_text


def scores(case_id, *volumes, scheme=KITS, against=MAJORITY, dice=0.8):
    """Scores of a case, one class after another, of (predicted, true) cm³."""
    return [
        Score(
            case_id, key, against, 1,
            dice if true and found else float(true == found), dice / 2, math.nan, found, true, 0,
        )
        for key, (found, true) in zip(scheme.evaluation_keys, volumes, strict=True)
    ]  # fmt: skip


CHESTS = Evaluation(
    tuple(
        scores("a", (300.0, 310.0), (20.0, 30.0), (10.0, 30.0))
        + scores("b", (320.0, 310.0), (0.0, 0.0), (0.0, 0.0), dice=0.9)
        + scores("c", (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
        + scores("d", (9.0, 0.0), (3.0, 0.0), (0.0, 0.0))
    )
)
"""An abdomen with a tumor, one without, a chest without a finding, and a chest with false ones."""


def test_volumes_found_where_a_class_is_absent():
    whole, mass, tumor = find_absent_classes(CHESTS, MAJORITY)
    means = pytest.approx(0.85), pytest.approx(0.425)
    assert whole == AbsentClass("kidney_and_mass", 2, 1, 4.5, 9.0, 2, *means)
    assert mass == AbsentClass("mass", 3, 1, 1.0, 3.0, 1, 0.8, 0.4)
    assert tumor == AbsentClass("tumor", 3, 0, 0.0, 0.0, 1, 0.8, 0.4)


def test_means_of_all_cases_stay_as_they_are():
    """KiTS's own definition holds in Table 1: two empty masks score 1, one scores 0."""
    means = {m.evaluation_class: m.mean for m in score_means(CHESTS) if m.score == "dice"}
    expected = [(0.8 + 0.9 + 1 + 0) / 4, (0.8 + 1 + 1 + 0) / 4, (0.8 + 1 + 1 + 1) / 4]
    assert list(means.values()) == pytest.approx(expected)


def test_the_notes_of_table_1_say_so():
    text = " ".join(score_table(CHESTS).notes)
    assert "Kidney + Masses is absent in 2 cases (in the means, Dice is 1 if nothing" in text
    assert "it was found in 1 of them, 4.50 cm³ on average over all of them, at most 9.00" in text
    assert "In the other 2 cases Dice is 0.850 and surface Dice 0.425" in text
    assert "Tumor is absent in 3 cases" in text
    assert "nothing was found of it there" in text
    assert "In the other 1 case Dice is 0.800" in text


def test_the_report_has_a_table_of_them():
    tables = make_tables(CHESTS)
    assert list(tables)[-1] == "absent_classes"
    head, *rows = csv.reader(StringIO(to_csv(tables["absent_classes"])))
    assert len(head) == 8
    assert rows[0] == ["Kidney + Masses", "2", "1", "4.50", "9.00", "2", "0.850", "0.425"]
    assert [line[0] for line in rows] == list(KITS.titles.values())
    assert "Volume found where a class is absent" in to_text(tables["absent_classes"])


def test_cases_that_have_every_class_have_none():
    """The tables of KiTS are as before, since each of its cases has a kidney and a tumor."""
    assert find_absent_classes(SIX, MAJORITY) == []
    assert absent_table(SIX) is None
    assert "absent_classes" not in make_tables(SIX)
    assert not any("absent" in note for note in score_table(SIX).notes)
    assert absent_table(Evaluation()) is None


def test_a_class_that_no_case_has():
    alone = Evaluation(tuple(scores("d", (9.0, 0.0), (3.0, 0.0), (0.0, 0.0))))
    assert math.isnan(find_absent_classes(alone, MAJORITY)[0].dice)
    assert absent_table(alone).rows[0][5:] == ("0", "–", "–")
    # Nothing is said of the other cases, since there are none.
    assert "other" not in describe_absent(alone)[0]


def test_individual_annotations_do_as_well():
    only = replace(CHESTS, scores=tuple(s._replace(against=INDIVIDUAL) for s in CHESTS.scores))
    assert absent_table(only).rows == absent_table(CHESTS).rows
    assert find_absent_classes(only, MAJORITY) == []


def test_other_labels_have_their_own_names():
    volumes = [(2.0, 0.0)] * len(LIVER.evaluation_keys)
    other = Evaluation(tuple(scores("a", *volumes, scheme=LIVER)), scheme=LIVER)
    assert [line[0] for line in absent_table(other).rows] == list(LIVER.titles.values())
