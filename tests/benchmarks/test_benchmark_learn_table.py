import pytest

from benchmarks.learn import make_notes, to_json
from benchmarks.learn_contenders import Trained, count_parameters
from benchmarks.learn_figure import plot_learning
from benchmarks.learn_table import compare_all, to_table
from benchmarks.learn_task import Task
from benchmarks.learn_trainings import MINUTES, STEPS, Training
from kitsjax.labels import KITS
from kitsjax.settings import Settings

TESTS = {"held out": 2, "others": 3}


def training(contender, seed, score, batches=100, minutes=5.0):
    """A training whose cases all have one Dice, and half of it as their surface Dice."""
    scores = {
        test: {
            column: {
                name: {f"case_{n:05d}": value for n in range(number)}
                for name in KITS.evaluation_keys
            }
            for column, value in (("dice", score), ("surface_dice", score / 2))
        }
        for test, number in TESTS.items()
    }
    return Training(contender, seed, batches, Trained(60 * minutes, 50 * minutes, 12), scores)


@pytest.fixture
def trainings():
    ours = [training("kitsjax", 0, 0.8), training("kitsjax", 1, 0.9)]
    return {
        STEPS: [
            *ours,
            training("nnU-Net", 0, 0.6, minutes=6),
            training("nnU-Net", 1, 0.8, minutes=8),
        ],
        MINUTES: [*ours, training("nnU-Net", 0, 0.9, 70), training("nnU-Net", 1, 0.9, 70)],
    }


def test_table_has_a_line_for_each_comparison(trainings):
    table = to_table(compare_all(trainings), trainings, ["a note"])
    assert len(table.rows) == 2 * len(TESTS) * len(KITS.evaluation_keys)
    first, last = table.rows[0], table.rows[-1]
    assert first[:4] == ("same steps", "held out, 2 cases", "Kidney + Masses", "nnU-Net")
    assert first[4:7] == ("0.850", "0.700", "+0.150 (0.150 to 0.150)")
    assert last[:3] == ("same minutes", "others, 3 cases", KITS.titles["tumor"])
    assert last[7:] == ("0.425", "0.450", "−0.025 (−0.025 to −0.025)")
    assert "nnU-Net 7.0 minutes (6.0 to 8.0) of 100 batches" in table.notes[0]
    assert "nnU-Net 5.0 minutes (5.0 to 5.0) of 70 batches" in table.notes[1]
    assert table.notes[-1] == "a note"


def test_several_rates_are_several_baselines(trainings):
    for runs in trainings.values():
        runs += [training("nnU-Net, rate 0.05", seed, 0.7) for seed in range(2)]
    rows = to_table(compare_all(trainings), trainings, []).rows
    assert [row[3] for row in rows[:6]] == ["nnU-Net"] * 3 + ["nnU-Net, rate 0.05"] * 3


def test_figure_shows_means_and_seeds(trainings):
    figure = plot_learning(compare_all(trainings))
    panels = {axis.get_title(): axis for axis in figure.axes}
    assert list(panels) == [f"{equal}, {test}" for test in TESTS for equal in trainings]
    # The first class: kitsjax's mean and seeds, then nnU-Net's.
    drawn = [list(line.get_ydata()) for line in panels["same steps, held out"].lines[:4]]
    expected = [[0.85], [0.8, 0.9], [0.7], [0.6, 0.8]]
    assert all(a == pytest.approx(b) for a, b in zip(drawn, expected, strict=True))


def test_results_keep_every_score(trainings, tmp_path):
    task = Task(tmp_path, Settings(), "phantom of seed 0, 24 cases", {})
    found = to_json(task, trainings, compare_all(trainings))
    kept = found["trainings"][STEPS][2]["scores"]["others"]["dice"]["mass"]["case_00002"]
    assert kept == 0.6
    difference = found["comparisons"][MINUTES]["held out"]["nnU-Net"]["dice"]["mass"]["difference"]
    assert difference["mean"] == pytest.approx(-0.05)
    notes = " ".join(make_notes(task, trainings))
    assert "Data: phantom of seed 0, 24 cases." in notes
    assert "kitsjax 12, nnU-Net 12" in notes
    assert "2 seeds" in notes


def test_outputs_do_not_count_as_parameters():
    shapes = {"encoder_0/first/kernel": (3, 3, 3, 1, 8), "head_0/bias": (4,), "up_0/bias": (8,)}
    assert count_parameters(shapes) == 27 * 8 + 8
