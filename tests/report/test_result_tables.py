import csv
import math
from dataclasses import replace
from io import StringIO

import pytest
from example_scores import LESIONS, SIX, evaluation, found, lesion

from kitsjax.evaluate.outcomes import OUTCOMES
from kitsjax.evaluate.results import Evaluation
from kitsjax.labels import INDIVIDUAL, KITS, MAJORITY
from kitsjax.report.lesion_tables import failure_table, sensitivity_table
from kitsjax.report.result_tables import (
    case_table,
    means_table,
    score_table,
    tidy_scores,
)
from kitsjax.report.table_format import Column, Table, to_csv


def row(table: Table, name: str) -> tuple[str, ...]:
    [found] = [cells[1:] for cells in table.rows if cells[0] == name]
    return found


def test_means_stand_in_the_papers_places():
    table = score_table(SIX)
    assert [(c.group, c.name) for c in table.columns[1:]] == [
        ("Dice", "Majority"), ("Dice", "Individual"),
        ("Surface Dice", "Majority"), ("Surface Dice", "Individual"),
    ]  # fmt: skip
    assert [cells[0] for cells in table.rows[::2]] == ["Kidney + Masses", "Masses", "Tumor"]
    assert row(table, "Tumor") == ("0.800", "0.790", "0.700", "0.690")
    low, high = map(float, table.rows[1][1].split("–"))
    assert 0.6 < low < 0.8 < high < 0.95


def test_published_means_stand_under_ours():
    table = score_table(SIX, "paper")
    theirs = [cells[1:] for cells in table.rows[2::3]]
    assert theirs == [
        ("0.971", "0.963", "0.937", "0.919"),
        ("0.861", "0.856", "0.762", "0.749"),
        ("0.840", "0.835", "0.743", "0.729"),
    ]
    assert table.notes[-1].startswith("Paper: Zang")


def test_what_was_not_scored_has_no_column():
    table = score_table(evaluation(0.5, 0.7, against=[INDIVIDUAL]), "paper")
    assert [column.name for column in table.columns] == ["Class", "Individual", "Individual"]
    assert table.rows[2][1:] == ("0.963", "0.919")
    assert score_table(Evaluation()).columns == (Column("Class"),)
    assert score_table(Evaluation()).rows == ()


def test_one_case_has_no_interval():
    assert [cells[0] for cells in score_table(evaluation(0.5)).rows] == list(KITS.titles.values())


def test_each_interval_takes_two_cases():
    takes = "resamples); an interval takes two cases."
    assert takes in score_table(evaluation(0.5)).notes[0]
    assert "takes" not in score_table(evaluation(0.5, 0.6)).notes[0]
    both = evaluation(0.5, 0.6)
    lone = [s for s in both.scores if s.against == MAJORITY or s.case_id == "case_00000"]
    table = score_table(replace(both, scores=tuple(lone)))
    assert takes in table.notes[0]
    assert [cell == "–" for cell in table.rows[1][1:]] == [False, True, False, True]
    assert not any("––" in cell for cells in table.rows for cell in cells)


def test_notes_say_what_is_missing():
    assert "Not scored" not in " ".join(score_table(SIX).notes)
    notes = score_table(replace(SIX, missing=("case_00009",))).notes
    assert "6 against the majority label" in notes[0]
    assert "1 without a prediction, 0 failed" in notes[0]


def test_tidy_scores_hold_every_digit():
    head, *rows = csv.reader(StringIO(to_csv(tidy_scores(evaluation(0.1, 0.3), "paper"))))
    assert ",".join(head) == "evaluation_class,score,against,mean,low,high,cases,paper"
    assert len(rows) == 12
    records = {tuple(line[:3]): dict(zip(head, line, strict=True)) for line in rows}
    record = records["mass", "dice", INDIVIDUAL]
    assert float(record["mean"]) == pytest.approx(0.19, abs=1e-12)
    assert float(record["low"]) <= 0.19 <= float(record["high"])
    assert (record["cases"], record["paper"]) == ("2", "0.856")
    head, *rows = csv.reader(StringIO(to_csv(tidy_scores(evaluation(0.5)))))
    assert head[-1] == "cases"
    assert rows[0] == ["kidney_and_mass", "dice", MAJORITY, "0.5", "", "", "1"]


def test_means_of_several_methods():
    network = {c: {"dice": at / 10, "surface_dice": at / 20} for at, c in enumerate(KITS.titles)}
    table = means_table({"network": network, "best HU threshold": network})
    assert [cells[0] for cells in table.rows] == ["network", "best HU threshold"]
    assert table.rows[0][1:] == ("0.000", "0.100", "0.200", "0.000", "0.050", "0.100")


def test_a_half_percent_is_rounded_up():
    eight = [
        lesion("tumor", outcome) for outcome in ("detected", "misclassified", *6 * ("missed",))
    ]
    assert row(failure_table(found(eight)), "Tumor")[1] == "1 (13 %)"
    three = [lesion("cyst", outcome) for outcome in (*3 * ("detected",), *5 * ("missed",))]
    cells = row(failure_table(found(three)), "Cyst")
    assert (cells[1], cells[5]) == ("3 (38 %)", "5 (63 %)")
    # 29 of 200 is 14.5 %, though not in binary.
    many = [lesion("cyst", outcome) for outcome in (*29 * ("detected",), *171 * ("missed",))]
    assert row(failure_table(found(many)), "Cyst")[1] == "29 (15 %)"
    assert row(sensitivity_table(found(three), (0, math.inf)), "0 or more")[5] == "3 (38 %)"


def test_failures_are_counted_per_label():
    table = failure_table(found(LESIONS))
    assert len(table.columns) == 2 + len(OUTCOMES)
    tumor = dict(zip((c.name for c in table.columns[1:]), row(table, "Tumor"), strict=True))
    assert tumor["True"] == "3"
    assert tumor["Detected"] == "2 (67 %)"
    assert tumor["Missed"] == "1 (33 %)"
    assert tumor["False positive"] == "1"
    assert row(table, "Cyst")[0] == "1"
    assert set(row(failure_table(found([])), "Cyst")) == {"0"}


def test_cases_start_with_the_worst_tumor():
    table = case_table(SIX)
    assert [cells[0][-1] for cells in table.rows] == list("321405")
    assert table.rows[0][1:] == (
        "0.600", "0.600", "0.600", "0.500", "0.500", "0.500", "2.50", "–", "20.25", "10.00",
    )  # fmt: skip
    assert "majority" in table.title
    individual = case_table(evaluation(0.5, against=[INDIVIDUAL]))
    assert "individual" in individual.title
    assert individual.rows[0][1] == "0.490"


def test_agreement_is_said_in_a_sentence():
    assert score_table(SIX).notes[1] == (
        "From majority to individual, over 6 cases, mean Dice falls by at most 0.010 (Kidney + "
        "Masses) and mean surface Dice falls by at most 0.010 (Kidney + Masses). Spearman r "
        "between the two scores of a case is 1.000."
    )
    risen = tuple(s._replace(dice=s.dice + 0.05 * (s.against == INDIVIDUAL)) for s in SIX.scores)
    assert "mean Dice rises by at least 0.040" in score_table(Evaluation(risen)).notes[1]
    assert "has no value" in score_table(evaluation(0.5, 0.5, 0.5)).notes[1]
    assert "fewer than three" in score_table(evaluation(0.5, 0.6)).notes[1]


def test_sensitivity_stands_by_volume():
    table = sensitivity_table(found(LESIONS), (0, 1, 50, math.inf))
    assert [cells[0] for cells in table.rows] == ["0–1", "1–50", "50 or more"]
    assert row(table, "0–1") == ("1", "0 (0 %)", "0–79 %", "0", "0", "0", "–", "0")
    assert row(table, "1–50") == ("0", "0", "–", "0", "1", "1 (100 %)", "21–100 %", "1")
    assert row(table, "50 or more")[:4] == ("2", "2 (100 %)", "34–100 %", "0")
    assert [cell.text for cell in table.head[0]] == ["", "Tumor", "Cyst"]
