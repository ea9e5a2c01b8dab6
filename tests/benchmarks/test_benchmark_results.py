import json

from benchmarks.definition import Measurement
from benchmarks.results import Row, to_json, to_table
from kitsjax.report.table_format import to_markdown


def row(seconds, goal=None, **others):
    """A row with a number of seconds for each round of each contender."""
    measurements = {
        name: [
            Measurement([value, value, 100.0], units=2, peak_bytes=3 * 2**20) for value in values
        ]
        for name, values in seconds.items()
    }
    return Row("name", "", "work", goal, "baseline", 1, measurements, **others)


ROUNDS = {"kitsjax": [1.0, 2.0, 4.0], "baseline": [3.0, 10.0, 8.0], "other": [2.0, 2.0, 2.0]}


def test_the_ratio_is_the_median_of_the_rounds():
    found = row(ROUNDS)
    # 3 / 1, 10 / 2 and 8 / 4: not the ratio of the medians, which is 4.
    assert found.ratios("baseline") == [3, 5, 2]
    assert found.ratio("baseline") == 3
    # Half of a repetition's 2 seconds.
    assert found.seconds("kitsjax") == 1


def test_the_table_has_a_line_for_each_baseline():
    table = to_table([row(ROUNDS, goal=3.0)], {"processor": "P"}, {"jax": "1"})
    first, second = table.rows
    assert first[2] == "baseline"
    assert first[4:7] == ("3", "2 to 5", "3: reached")
    assert second[2] == "other"
    assert second[6] == ""  # the goal is set against the first baseline
    assert "Measured on: processor P." in to_markdown(table)


def test_a_goal_is_of_one_baseline_alone():
    """Where the first one could not be measured."""
    seconds = {name: ROUNDS[name] for name in ("kitsjax", "other")}
    found = row(seconds, goal=0.1, failures={"baseline": "not installed"})
    assert to_table([found], {}, {}).rows[0][6] == ""


def test_a_goal_just_missed_is_not_reached():
    assert to_table([row(ROUNDS, goal=3.01)], {}, {}).rows[0][6] == "3.01: not reached"


def test_notes_name_who_was_left_out():
    found = row({"kitsjax": [1.0]}, failures={"baseline": "exit status 1 (no room)"})
    notes = to_table([found], {}, {}).notes
    assert any("baseline left out: exit status 1 (no room)" in note for note in notes)


def test_the_work_is_described_once():
    notes = to_table([row(ROUNDS), row(ROUNDS)], {}, {}).notes
    assert notes.count("name: work.") == 1


def test_json_has_every_round_and_the_checks():
    text = json.dumps(to_json([row(ROUNDS, checks={"difference": 0.5})], {"cores": "2"}, {}))
    (found,) = json.loads(text)["rows"]
    assert found["checks"] == {"difference": 0.5}
    assert len(found["measurements"]["baseline"]) == 3
    assert found["ratios"] == {"baseline": 3, "other": 1}


def test_numbers_are_never_powers_of_ten():
    found = row({"kitsjax": [1.9996], "baseline": [5000.0]})
    ours, _, theirs, ratio, spread = to_table([found], {}, {}).rows[0][1:6]
    # A unit is half of a repetition.
    assert (ours, theirs, ratio, spread) == ("1 s", "2,500 s", "2,501", "2,501 to 2,501")
