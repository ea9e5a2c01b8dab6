"""The paper's figures, drawn with matplotlib; each function writes one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kitsjax.files import written_beside

Row = Mapping[str, float]


def draw_progress(epochs: Sequence[Row], path: str | Path) -> None:
    """Figure 2 (V2): both losses and the composite Dice's moving average over the epochs.

    The title names the epoch of the least validation loss (the paper's was 892 of 1000).

    Args:
        epochs: rows with epoch (from 1), train_loss, validation_loss, dice, dice_average.
        path: .png or .pdf.
    """
    # Without pyplot: no global state, no window system, and a fast import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.add_subplot()
    scores = losses.twinx()
    number = [row["epoch"] for row in epochs]

    def values(name: str) -> list[float]:
        return [row[name] for row in epochs]

    mark = "o" if len(epochs) == 1 else None
    # Dashes as well as colours, for the colour-blind and for print.
    losses.plot(number, values("train_loss"), "b-", marker=mark, label="training loss")
    losses.plot(number, values("validation_loss"), "r--", marker=mark, label="validation loss")
    scores.plot(number, values("dice"), color="green", alpha=0.25, lw=0.8)
    scores.plot(
        number, values("dice_average"), "g-.", marker=mark, label="composite Dice, moving average"
    )
    losses.set(xlabel="epoch", ylabel="loss")
    scores.set(ylabel="Dice", ylim=(0, 1))
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.grid(alpha=0.3)
    least = min(epochs, key=lambda row: row["validation_loss"])
    figure.suptitle(
        f"validation loss is least, {least['validation_loss']:.3f}, at epoch {least['epoch']:g}",
        fontsize="medium",
    )
    handles = [*losses.get_lines(), scores.get_lines()[-1]]
    losses.legend(handles=handles, loc="center right", fontsize="small")
    with written_beside(path) as beside:
        figure.savefig(beside)
