"""What a drawn figure is and how it becomes files: matplotlib without pyplot, reproducible."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kitsjax.files import atomic_write, remove_file

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

NOTEBOOK_DPI = 100
"""Of a figure in a notebook: 700 pixels across, which any page has, in half the bytes of a file."""


class Drawing(NamedTuple):
    """A figure and what stands around it.

    Attributes:
        name: file stem, `figure_2_training`.
        title: `Figure 2. Training`.
        caption: states the numbers; or, where there is no figure, in one sentence why not.
        figure: of matplotlib; None where the data are too few.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None

    def _repr_png_(self) -> bytes | None:
        """How a notebook shows it; where there is no figure, the notebook shows the fields."""
        if self.figure is None:
            return None
        image = BytesIO()
        self.figure.savefig(image, format="png", dpi=NOTEBOOK_DPI, metadata={"Software": None})
        return image.getvalue()


def new_figure(width_in: float, height_in: float, dpi: int = 170) -> Figure:
    """An empty figure of a size in inches, without pyplot's global state or a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tick_integers(axis: Axis) -> None:
    """Let an axis have its ticks at integers, even if it shows one only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def save_drawing(drawing: Drawing, folder: str | Path) -> list[Path]:
    """Write a drawing as PNG and PDF, each whole or not at all; nothing if it has no figure.

    Equal drawings give equal bytes. Files of that name from an earlier drawing are removed where
    there is no figure now.

    Returns:
        The files written, PNG first.

    Raises:
        InputError: the folder cannot be written, or a folder has the name of a file.
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
    """Write a figure to a .png or .pdf without date or version, whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    pdf = Path(path).suffix == ".pdf"
    unnamed = ("CreationDate", "Producer", "Creator") if pdf else ("Software",)
    with atomic_write(path) as beside:
        figure.savefig(beside, metadata=dict.fromkeys(unnamed))
