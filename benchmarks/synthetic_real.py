"""Score a model on real CTs: `docs/synthetic.md` has the table.

    python -m benchmarks.synthetic_real --model synthetic --real FOLDER --figures figures/

FOLDER holds CTs as NIfTI in any subfolder: with a mask of the kidneys beside them, named with
"kidney", or in a folder named with "without_kidneys". Other CTs are left out. Several models are
averaged. Nothing is written but the figures.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.real_cts import RealCt, find_real_cts
from kitsjax.command import exit_with, run_command
from kitsjax.config import load_settings
from kitsjax.devices import start_devices
from kitsjax.errors import InputError
from kitsjax.evaluate.score_volumes import score
from kitsjax.infer.ensemble import load_ensemble
from kitsjax.infer.predict import segment
from kitsjax.infer.predict_files import best_cpu_devices
from kitsjax.input_file import check_is_folder
from kitsjax.labels import EvaluationClass, LabelScheme
from kitsjax.report.drawing import Drawing, save_drawing
from kitsjax.report.slice_panels import draw_views
from kitsjax.report.table_format import Column, Table, number, to_markdown
from kitsjax.report.views import View

KIDNEYS = LabelScheme(
    ("background", "kidneys"), (EvaluationClass("kidneys", "Kidneys", (1,), 1.0),)
)

SLICES = 4
"""A figure shows so many axial slices of a CT."""


class RealScore(NamedTuple):
    """What a model found in a real CT.

    Attributes:
        name: the CT's file and its folder.
        kidneys: Dice of the kidneys without their masses; nan if none are in view.
        whole: Dice of kidneys and masses together, which forgives a kidney that is taken for a
            mass; nan if none are in view.
        surface: surface Dice of the same, at 1 mm.
        true_ml, found_ml: volume of the true kidneys, and of everything that was found.
        masses_ml: volume of the masses that were found.
        seconds: duration of the prediction, compilation included.
    """

    name: str
    kidneys: float
    whole: float
    surface: float
    true_ml: float
    found_ml: float
    masses_ml: float
    seconds: float


def score_real(ct: RealCt, label: np.ndarray, scheme: LabelScheme, seconds: float) -> RealScore:
    """Compare a label map (z, y, x) with the kidneys of a CT that are known."""
    assert ct.kidneys is not None
    true, spacing_mm = ct.kidneys.astype(np.uint8), ct.image.spacing_mm
    masses = np.isin(label, scheme.lesions)
    kidneys, whole = (
        score(found.astype(np.uint8), true, spacing_mm, KIDNEYS)["kidneys"]
        for found in ((label > 0) & ~masses, label > 0)
    )
    ml = ct.image.grid.voxel_mm3 / 1000
    known = bool(ct.kidneys.any())
    return RealScore(
        name=f"{ct.path.parent.name}/{ct.path.name}",
        kidneys=kidneys.dice if known else np.nan,
        whole=whole.dice if known else np.nan,
        surface=whole.surface_dice if known else np.nan,
        true_ml=np.count_nonzero(true) * ml,
        found_ml=np.count_nonzero(label) * ml,
        masses_ml=np.count_nonzero(masses) * ml,
        seconds=seconds,
    )


def make_table(scores: list[RealScore], title: str) -> Table:
    """Make the table of all CTs; – stands for what no kidney in view leaves undefined."""
    heads = (
        "CT", "Kidneys, Dice", "Kidneys and masses, Dice", "surface Dice at 1 mm", "true (ml)",
        "found (ml)", "masses found (ml)", "seconds",
    )  # fmt: skip
    rows = tuple(
        (
            each.name,
            *(number(x) for x in (each.kidneys, each.whole, each.surface)),
            *(number(x, 1) for x in (each.true_ml, each.found_ml, each.masses_ml, each.seconds)),
        )
        for each in scores
    )
    return Table(title, tuple(map(Column, heads)), rows)


def draw_slices(ct: RealCt, label: np.ndarray, scheme: LabelScheme) -> Drawing:
    """Draw axial slices of a CT: what was found above, the known kidneys below."""
    assert ct.kidneys is not None
    shown = np.flatnonzero(((label > 0) | ct.kidneys).any(axis=(1, 2)))
    shown = shown if shown.size else np.arange(len(label))
    places = np.quantile(shown, (np.arange(SLICES) + 0.5) / SLICES).round().astype(int)
    organ = next(v for v in scheme.foreground if v not in scheme.lesions)
    true = ct.kidneys.astype(np.uint8) * np.uint8(organ)
    spacing_mm = ct.image.spacing_mm[1:]
    views = [View(ct.image.array[z], label[z], true[z], spacing_mm) for z in places]
    figure = draw_views(views, [f"slice {z}" for z in places], scheme)
    name = ct.path.name.removesuffix(".nii.gz")
    return Drawing(name, name, "Prediction above, reference below.", figure)


def main() -> int:
    """Predict every CT, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["synthetic"], help="runs or models")
    parser.add_argument("--real", required=True, metavar="FOLDER", help="real CTs")
    parser.add_argument("--figures", metavar="FOLDER", help="folder for a figure of each CT")
    args = parser.parse_args()
    check_is_folder(Path(args.real), "no such folder", "give a folder of CTs")
    start_devices(load_settings(overrides=[f"run.cpu_devices={best_cpu_devices()}"]).run)
    models = load_ensemble(*args.model)
    scheme = models[0].scheme
    scores: list[RealScore] = []
    for ct in find_real_cts(args.real):
        if ct.kidneys is None:
            continue
        began = time.perf_counter()
        label = segment(models, ct.image).array
        scores.append(score_real(ct, label, scheme, time.perf_counter() - began))
        if args.figures:
            save_drawing(draw_slices(ct, label, scheme), Path(args.figures))
    if not scores:
        raise InputError(f"{args.real}: holds no CT whose kidneys are known")
    print(to_markdown(make_table(scores, f"Real CTs, {', '.join(args.model)}")))
    return 0


if __name__ == "__main__":
    exit_with(run_command(main))
