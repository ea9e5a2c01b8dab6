"""The figure of the learning benchmark: Dice by class, a panel for each test set and equality."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.learn_scores import Comparison
from benchmarks.learn_table import OURS, Comparisons
from kitsjax.labels import KITS
from kitsjax.report.drawing import new_figure
from kitsjax.report.statistics import MeanInterval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#2166ac", "#b2182b", "#f4a582", "#762a83", "#5aae61")
_OFFSET = 0.16


def plot_learning(comparisons: Comparisons) -> Figure:
    """Draw each contender's mean Dice with its interval over cases, and the mean of each seed."""
    from matplotlib.lines import Line2D

    tests = list(next(iter(comparisons.values())))
    figure = new_figure(8.4, 2.9 * len(tests) + 0.6)
    panels = figure.subplots(len(tests), len(comparisons), squeeze=False, sharey=True)
    for line, test in zip(panels, tests, strict=True):
        for axis, (equal, found) in zip(line, comparisons.items(), strict=True):
            axis.set_title(f"{equal}, {test}", fontsize=10)
            _draw(axis, found[test])
        line[0].set_ylabel("Dice")
    names = [OURS, *next(iter(comparisons.values()))[tests[0]]]
    handles = [
        Line2D([], [], color=color, marker="_", ms=9, mew=2, label=name)
        for name, color in zip(names, _COLORS, strict=False)
    ]
    handles.append(Line2D([], [], color="0.4", marker="o", ls="", ms=4, label="a seed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw(axis: Axes, baselines: dict[str, dict[str, dict[str, Comparison]]]) -> None:
    for place, name in enumerate(KITS.titles):
        contenders = list(_contenders(baselines, name))
        for number, (mean, seeds) in enumerate(contenders):
            x = place + _OFFSET * (number - (len(contenders) - 1) / 2)
            color = _COLORS[number % len(_COLORS)]
            axis.vlines(x, mean.low, mean.high, color=color, lw=1.6)
            axis.plot([x], [mean.mean], color=color, marker="_", ms=10, mew=2)
            axis.plot(
                [x + 0.05] * len(seeds), seeds, color=color, marker="o", ms=3, ls="", alpha=0.7
            )
    axis.set_xticks(range(len(KITS.titles)), list(KITS.titles.values()))
    axis.set_xlim(-0.5, len(KITS.titles) - 0.5)
    axis.grid(axis="y", alpha=0.3)


def _contenders(
    baselines: dict[str, dict[str, dict[str, Comparison]]], name: str
) -> Iterator[tuple[MeanInterval, list[float]]]:
    """Yield the mean Dice and the seeds' means of a class, for kitsjax and then each baseline."""
    for number, scores in enumerate(baselines.values()):
        found = scores["dice"][name]
        if number == 0:
            yield found.our_mean, found.ours
        yield found.their_mean, found.theirs
