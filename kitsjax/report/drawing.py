"""Figures with title and caption, and their files: matplotlib without pyplot, reproducible."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kitsjax.files import atomic_write, remove_file

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

NOTEBOOK_DPI = 100
"""Figures in a notebook are 700 pixels wide: they fit any page, in half the bytes of their file."""


class Drawing(NamedTuple):
    """A figure with its name, title and caption.

    Attributes:
        name: stem of its files, such as `figure_2_training`.
        title: such as `Figure 2. Training`.
        caption: the numbers in words; where there is no figure, one sentence that says why.
        figure: matplotlib figure; None where the data are too few.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None

    def _repr_png_(self) -> bytes | None:
        """Show the figure in a notebook; without a figure the notebook shows the fields."""
        if self.figure is None:
            return None
        image = BytesIO()
        self.figure.savefig(image, format="png", dpi=NOTEBOOK_DPI, metadata={"Software": None})
        return image.getvalue()


def new_figure(width_in: float, height_in: float, dpi: int = 170) -> Figure:
    """Make an empty figure, without pyplot's global state or a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tick_integers(axis: Axis) -> None:
    """Put the ticks of an axis at integers, even where it shows a single one."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def save_drawing(drawing: Drawing, folder: str | Path) -> list[Path]:
    """Write a drawing as PNG and PDF by atomic writes; equal drawings give equal bytes.

    Without a figure nothing is written, and files of an earlier drawing of that name are removed.

    Returns:
        The files written, PNG first.

    Raises:
        InputError: The folder cannot be written, or holds a folder of such a name.
    """
    paths = [Path(folder) / f"{drawing.name}.{suffix}" for suffix in ("png", "pdf")]
    if drawing.figure is None:
        for path in paths:
            remove_file(path)
        return []
    for path in paths:
        save_figure(drawing.figure, path)
    return paths


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a .png or .pdf by an atomic write, without date or version.

    Raises:
        InputError: The folder cannot be written.
    """
    pdf = Path(path).suffix == ".pdf"
    removed = ("CreationDate", "Producer", "Creator") if pdf else ("Software",)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, metadata=dict.fromkeys(removed))
