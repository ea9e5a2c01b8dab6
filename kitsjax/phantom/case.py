"""A synthetic contrast-enhanced abdomen in KiTS21's own layout: no download, seeded, labels exact.

`painting.py` holds the volume and its partial volume, `anatomy.py` the body, `kidneys.py` what is
to be segmented; here are acquisition (spacing, noise), annotators and files.
"""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.data.paint_instances import merge_annotations
from kitsjax.errors import InputError
from kitsjax.files import atomic_write, remove_leftovers, write_text
from kitsjax.labels import CLASSES
from kitsjax.parallel import map_cases
from kitsjax.phantom.anatomy import draw_patient, paint_table, paint_trunk, paint_viscera
from kitsjax.phantom.kidneys import (
    PaintedStructure,
    paint_kidney,
    paint_mass,
    place_kidneys,
    place_masses,
)
from kitsjax.phantom.painting import Scene

VERSION = 1
"""Raised whenever the same seed would give other voxels."""

ANNOTATORS = 3
HABIT_MM, WAVER_MM, WAVE_MM = 0.2, 0.4, 18.0
"""An annotator's surface lies off by a constant and a smooth field of these standard deviations.

With them the surfaces of two annotators differ as KiTS21's do: 95th percentiles of 1.0, 1.15 and
1.2 mm for kidney and masses, masses and tumor (KiTS21: the tolerances in `labels.py`).
"""

SLICE_MM = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
SLICE_SHARE = (0.03, 0.03, 0.10, 0.10, 0.04, 0.08, 0.10, 0.20, 0.06, 0.26)
"""Slice spacings like KiTS21's: 0.5 to 5 mm, median 3 mm."""


@dataclass(frozen=True)
class PhantomCase:
    """A case in memory; arrays are (z, y, x), axes pointing inferior, posterior, left.

    Attributes:
        image: HU, int16.
        spacing_mm: voxel edges (z, y, x).
        instances: what three annotators drew of each.
        labels: "MAJ", "AND", "OR" -> merged label, uint8.
        phase: contrast phase.
    """

    image: np.ndarray
    spacing_mm: tuple[float, float, float]
    instances: list[Instance]
    labels: dict[str, np.ndarray]
    phase: str

    @property
    def affine(self) -> np.ndarray:
        """4x4, from (z, y, x) index to RAS+ mm, as in KiTS21's files."""
        z, y, x = self.spacing_mm
        return np.array([[0, 0, -x, 0], [0, -y, 0, 0], [-z, 0, 0, 0], [0, 0, 0, 1.0]])


def make_case(seed: int, n: int, matrix: int = 512) -> PhantomCase:
    """Case n of a phantom: a function of (seed, n, matrix) alone.

    `matrix` is the number of voxels across a slice; the field of view is 350 to 450 mm whatever it
    is, so a smaller one shows much the same patient in larger voxels. Slices are 0.5 to 5 mm and
    cover 180 to 260 mm. One core needs about 3 s and at most 1.5 GB at 512, 0.3 s at 64.
    """
    # How many numbers textures and noise take depends on the matrix; the anatomy must not.
    rng, texture_rng = np.random.default_rng([seed, n]).spawn(2)
    fov_mm = float(rng.uniform(350, 450))
    pixel_mm = fov_mm / matrix
    slice_mm = float(rng.choice(SLICE_MM, p=SLICE_SHARE))
    extent_mm = max(180.0, min(float(rng.uniform(180, 260)), 240 * slice_mm))
    shape = (round(extent_mm / slice_mm), matrix, matrix)
    spacing = (slice_mm, pixel_mm, pixel_mm)
    off_mm = rng.uniform([-4, -10, -10], [12, 10, 10])
    corner = off_mm - np.array([extent_mm, fov_mm, fov_mm]) / 2
    patient = draw_patient(rng, fov_mm)
    reach = (math.inf, patient.half_y_mm + 20, patient.half_x_mm + 20)
    scene = Scene(texture_rng, shape, spacing, tuple(corner), reach)

    cavity = paint_trunk(rng, scene, patient)
    paint_viscera(rng, scene, patient, cavity)
    kidneys = place_kidneys(rng, patient)
    masses = place_masses(rng, scene, kidneys, cavity)
    painted = [paint_kidney(rng, scene, patient, kidney, cavity) for kidney in kidneys]
    painted += [paint_mass(rng, scene, patient, mass, cavity) for mass in masses]
    paint_table(rng, scene, patient)
    _add_noise(rng.uniform(9, 28), scene)
    instances = _annotate(scene, painted)
    return PhantomCase(
        image=np.clip(np.rint(scene.image), -1024, 3071).astype(np.int16),
        spacing_mm=spacing,
        instances=instances,
        labels=merge_annotations(instances, shape),
        phase=patient.phase,
    )


def _add_noise(strength_hu: float, scene: Scene) -> None:
    """Add noise with the spectrum of a reconstruction kernel: |f| times a low pass, in the plane.

    Its standard deviation is `strength_hu` at 0.78 mm; larger voxels average some of it away.
    """
    size, rng = scene.image.shape[1], scene.rng
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    response = (frequency + 0.02) * np.exp(-((frequency / rng.uniform(0.16, 0.3)) ** 2))
    white = np.fft.rfft2(rng.standard_normal((16, size, size), np.float32))
    tiles = np.fft.irfft2(white * response, (size, size)).astype(np.float32)
    tiles *= strength_hu * min(1.0, (0.78 / scene.spacing_mm[1]) ** 0.5) / tiles.std()
    # A slice's noise is one of 16 tiles, shifted: no two slices alike, a tenth of the time.
    for plane in scene.image:
        shift = tuple(rng.integers(0, size, 2))
        plane += np.roll(tiles[rng.integers(len(tiles))], shift, (0, 1))


def _annotate(scene: Scene, painted: list[PaintedStructure]) -> list[Instance]:
    """Three annotators' masks of each instance: the surface moved by a smooth random field."""
    instances: list[Instance] = []
    for kind, level, region in painted:
        distance = scene.distance_mm(level)
        masks = []
        for _ in range(ANNOTATORS):
            offset = scene.rng.normal(0, HABIT_MM) + WAVER_MM * scene.noise(region, WAVE_MM)
            box, moved = scene.to_voxels(distance + offset, region)
            masks.append(moved < 0)
        if all(mask.any() for mask in masks):  # a small cyst may fall between large voxels
            number = 1 + sum(known.kind == kind for known in instances)
            instances.append(Instance(kind, number, box, np.stack(masks)))
    return instances


def make_phantom(
    root: str | Path,
    cases: int,
    matrix: int = 512,
    seed: int = 0,
    workers: int = 0,
    progress: bool = True,
) -> None:
    """Write a phantom data set of `cases` cases to `root`; finished cases are kept.

    Cases are made in `workers` processes (0: one a core) under a temporary name and renamed, so a
    killed run leaves whole cases only. The voxels do not depend on the number of workers.
    `root/phantom.json` records the parameters and each case's spacing, phase and instances.

    Raises:
        InputError: root holds other data, or a phantom of another seed, matrix or version, or
            cannot be written.
    """
    root = Path(root)
    parameters = {"version": VERSION, "seed": seed, "matrix": matrix}
    try:
        _claim(root, parameters)
        missing = [n for n in range(cases) if not _folder(root, n).is_dir()]
        write = partial(_write_case, root, seed, matrix)
        for _, failure in map_cases(write, missing, workers, "phantom", progress):
            if failure:
                raise failure
        found = sorted(root.glob("case_*"))
        records = {folder.name: _read_json(folder / "phantom.json") for folder in found}
        _write_json(root / "phantom.json", parameters | {"cases": records})
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{root}: cannot hold the phantom ({reason}); free space there or name another folder"
        ) from None


def _folder(root: Path, n: int) -> Path:
    return root / f"case_{n:05d}"


def _claim(root: Path, parameters: dict[str, int]) -> None:
    """Make root this phantom's, or refuse it; clear what a killed run left."""
    record = root / "phantom.json"
    root.mkdir(parents=True, exist_ok=True)
    if record.exists():
        found = _read_json(record)
        for name, value in parameters.items():
            if found.get(name) != value:
                raise InputError(
                    f"{root}: holds a phantom of {name} {found.get(name)}, not {value}; "
                    "remove it or name another folder"
                )
    elif any(not path.name.startswith(".") for path in root.iterdir()):
        raise InputError(f"{root}: holds other data; name an empty folder for the phantom")
    else:
        _write_json(record, parameters | {"cases": {}})
    remove_leftovers(root)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a phantom's record; remove the folder that holds it")
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def _write_case(root: Path, seed: int, matrix: int, n: int) -> None:
    """Write one case, whole or not at all."""
    case = make_case(seed, n, matrix)
    record = {
        "spacing_mm": case.spacing_mm,
        "shape": case.image.shape,
        "phase": case.phase,
        "instances": {kind: sum(i.kind == kind for i in case.instances) for kind in CLASSES[1:]},
    }
    with atomic_write(_folder(root, n)) as beside:
        (beside / "segmentations").mkdir(parents=True)
        _write_nifti(beside / "imaging.nii.gz", case.image, case.affine)
        for rule, label in case.labels.items():
            _write_nifti(beside / f"aggregated_{rule}_seg.nii.gz", label, case.affine)
        for instance in case.instances:
            for annotation, mask in enumerate(instance.masks, 1):
                whole = np.zeros(case.image.shape, np.uint8, order="F")
                whole[instance.region] = mask
                stem = f"{instance.kind}_instance-{instance.number}"
                name = f"{stem}_annotation-{annotation}.nii.gz"
                _write_nifti(beside / "segmentations" / name, whole, case.affine)
        _write_json(beside / "phantom.json", record)


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    # NIfTI stores the first axis fastest; nibabel would reorder one voxel at a time.
    image = nib.Nifti1Image(np.asfortranarray(array), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
