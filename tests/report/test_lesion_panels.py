from example_scores import found, lesion, random_evaluation

from kitsjax.evaluate.outcomes import OUTCOMES
from kitsjax.report.charts import plot_sensitivity


def test_rates_and_numbers_stand_at_their_volumes():
    rows = [lesion("tumor", "detected", 5.0)] * 3
    rows += [
        lesion("tumor", "missed", 5.0),
        lesion("cyst", "missed", 200.0),
        lesion("cyst", "false positive", 0.2),
    ]
    drawing = plot_sensitivity(found(rows))
    above, below = drawing.figure.axes
    tumors, cysts = (container.lines[0].get_ydata() for container in above.containers)
    assert [rate for rate in tumors if rate == rate] == [0.75]
    assert [rate for rate in cysts if rate == rate] == [0.0]
    labels = [text.get_text().split("\n") for text in above.get_xticklabels()]
    assert ["3–10", "4", "0"] in labels
    assert labels[-1][1:] == ["0", "1"]
    assert "3 of 4 tumors and 0 of 1 cysts were found" in drawing.caption
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in below.containers}
    assert widths == {name: [0, 0] for name in OUTCOMES} | {
        "detected": [3, 0], "missed": [1, 1], "false positive": [0, 1]
    }  # fmt: skip
    assert "Cysts: 1 missed, 1 false positive." in drawing.caption


def test_outcomes_are_told_apart_without_color():
    below = plot_sensitivity(random_evaluation(12)).figure.axes[1]
    assert len({bars[0].get_hatch() for bars in below.containers}) == len(OUTCOMES)
