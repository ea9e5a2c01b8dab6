"""A synthetic contrast-enhanced abdomen in KiTS21's own layout: no download, seeded, labels exact.

`painting.py` holds the volume and its partial volume, `anatomy.py` the body, `kidneys.py` what is
to be segmented; here are acquisition (spacing, table, noise), annotators and files.
"""

import json
import math
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from kitsjax.data.anatomy import Patient, draw_patient, paint_trunk, paint_viscera
from kitsjax.data.kidneys import Instance, paint_kidney, paint_mass, place_kidneys, place_masses
from kitsjax.data.painting import AIR_HU, Region, Scene
from kitsjax.errors import InputError
from kitsjax.labels import CLASSES, PAINT_ORDER

VERSION = 1
"""Raised whenever the same seed would give other voxels."""

ANNOTATORS = 3

SLICE_MM = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
SLICE_SHARE = (0.03, 0.03, 0.10, 0.10, 0.04, 0.08, 0.10, 0.20, 0.06, 0.26)
"""Slice spacings like KiTS21's: 0.5 to 5 mm, median 3 mm."""


@dataclass(frozen=True)
class PhantomCase:
    """A case in memory; arrays are (z, y, x), axes pointing inferior, posterior, left.

    Attributes:
        image: HU, int16.
        spacing_mm: voxel edges (z, y, x).
        annotations: (kind, instance number from 1) -> bounding box and bool masks in it, one an
            annotator, (3, z, y, x).
        labels: "MAJ", "AND", "OR" -> merged label, uint8.
        phase: contrast phase.
    """

    image: np.ndarray
    spacing_mm: tuple[float, float, float]
    annotations: dict[tuple[str, int], tuple[Region, np.ndarray]]
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
    is, so a smaller one has larger voxels. Slices are 0.5 to 5 mm and cover 160 to 260 mm.
    """
    # What is drawn for the anatomy does not depend on the matrix; textures and noise do.
    rng, texture_rng = np.random.default_rng([seed, n]).spawn(2)
    fov_mm = float(rng.uniform(350, 450))
    pixel_mm = fov_mm / matrix
    slice_mm = float(rng.choice(SLICE_MM, p=SLICE_SHARE))
    extent_mm = max(160.0, min(float(rng.uniform(160, 260)), 240 * slice_mm))
    shape = (round(extent_mm / slice_mm), matrix, matrix)
    spacing = (slice_mm, pixel_mm, pixel_mm)
    corner = np.array([-extent_mm, -fov_mm, -fov_mm]) / 2 + rng.uniform(-10, 10, 3)
    patient = draw_patient(rng, fov_mm)
    reach = (math.inf, patient.half_y_mm + 20, patient.half_x_mm + 20)
    scene = Scene(texture_rng, shape, spacing, tuple(corner), reach)

    cavity = paint_trunk(rng, scene, patient)
    paint_viscera(rng, scene, patient, cavity)
    kidneys = place_kidneys(rng, patient)
    masses = place_masses(rng, scene, kidneys, cavity)
    instances = [paint_kidney(rng, scene, patient, kidney, cavity) for kidney in kidneys]
    instances += [paint_mass(rng, scene, patient, mass, cavity) for mass in masses]
    _paint_table(rng, scene, patient)
    _add_noise(rng.uniform(9, 28), scene)
    annotations = _annotate(scene, instances)
    return PhantomCase(
        image=np.clip(np.rint(scene.image), -1024, 3071).astype(np.int16),
        spacing_mm=spacing,
        annotations=annotations,
        labels=merge_annotations(annotations, shape),
        phase=patient.phase,
    )


def _paint_table(rng: np.random.Generator, scene: Scene, patient: Patient) -> None:
    """Two shells under the patient, the same in every slice, in most scans."""
    y, x = np.meshgrid(scene.voxels[1], scene.voxels[2], indexing="ij")
    top, radius = patient.half_y_mm * 0.91 + rng.uniform(12, 25), rng.uniform(400, 700)
    shown, hu = rng.random() < 0.8, rng.uniform(-200, 150)
    for depth in (0, rng.uniform(12, 25)) if shown else ():
        distance = np.hypot(x, y - top - depth + radius) - radius
        shell = np.clip(0.5 - (abs(distance) - 1) / scene.spacing_mm[1], 0, 1) * (abs(x) < 200)
        scene.image += np.float32(shell * (hu - AIR_HU))


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
    for start in range(0, len(scene.image), len(tiles)):
        slab = scene.image[start : start + len(tiles)]
        shifts = rng.integers(0, size, (len(slab), 2))
        order = rng.permutation(len(tiles))
        noise = [np.roll(tiles[t], shift, (0, 1)) for t, shift in zip(order, shifts, strict=False)]
        slab += np.stack(noise)


def _annotate(
    scene: Scene, instances: list[Instance]
) -> dict[tuple[str, int], tuple[Region, np.ndarray]]:
    """Three annotators' masks of each instance: the surface moved by a smooth random field."""
    annotations: dict[tuple[str, int], tuple[Region, np.ndarray]] = {}
    for kind in (CLASSES[label] for label in (1, 2, 3)):
        number = 0
        for instance in instances:
            if instance.kind != kind:
                continue
            distance = scene.distance_mm(instance.level)
            masks = []
            for _ in range(ANNOTATORS):
                habit = scene.rng.normal(0, 0.2)
                offset = habit + 0.4 * scene.noise(instance.region, 18)
                box, moved = scene.to_voxels(distance + offset, instance.region)
                masks.append(moved < 0)
            if all(mask.any() for mask in masks):
                number += 1
                annotations[kind, number] = box, np.stack(masks)
    return annotations


def merge_annotations(
    annotations: dict[tuple[str, int], tuple[Region, np.ndarray]], shape: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """KiTS21's merged labels: majority, intersection and union of each instance's annotations."""
    labels = {rule: np.zeros(shape, np.uint8, order="F") for rule in ("MAJ", "AND", "OR")}
    for label in PAINT_ORDER:
        for (kind, _), (box, masks) in annotations.items():
            if kind != CLASSES[label]:
                continue
            votes = masks.sum(0)
            least = {"MAJ": len(masks) // 2 + 1, "AND": len(masks), "OR": 1}
            for rule, merged in labels.items():
                merged[box][votes >= least[rule]] = label
    return labels


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

    Raises:
        InputError: root holds other data, or a phantom of another seed, matrix or version.
    """
    root = Path(root)
    parameters = {"version": VERSION, "seed": seed, "matrix": matrix}
    _claim(root, parameters)
    missing = [n for n in range(cases) if not _folder(root, n).is_dir()]
    workers = min(workers or _cores(), len(missing))
    with tqdm(total=len(missing), desc="phantom", unit="case", disable=not progress) as bar:
        if workers <= 1:
            for n in missing:
                _write_case(root, seed, n, matrix)
                bar.update()
        else:
            # Spawned, not forked: JAX's threads in the parent would not survive a fork.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                jobs = [pool.submit(_write_case, root, seed, n, matrix) for n in missing]
                for job in as_completed(jobs):
                    job.result()
                    bar.update()
    records = {
        folder.name: json.loads((folder / "phantom.json").read_text())
        for folder in sorted(root.glob("case_*"))
    }
    _write_json(root / "phantom.json", parameters | {"cases": records})


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folder(root: Path, n: int) -> Path:
    return root / f"case_{n:05d}"


def _claim(root: Path, parameters: dict[str, int]) -> None:
    """Make root this phantom's, or refuse it."""
    record = root / "phantom.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if record.exists():
            found = json.loads(record.read_text())
            other = [k for k, value in parameters.items() if found.get(k) != value]
            if other:
                k = other[0]
                raise InputError(
                    f"{root}: holds a phantom of {k} {found.get(k)}, not {parameters[k]}; "
                    "name another folder or remove it"
                )
        elif any(root.iterdir()):
            raise InputError(f"{root}: holds other data; name an empty folder for the phantom")
        else:
            _write_json(record, parameters | {"cases": {}})
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{record}: cannot be used ({error}); name another folder") from None
    for leftover in root.glob(".case_*"):
        shutil.rmtree(leftover)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def _write_case(root: Path, seed: int, n: int, matrix: int) -> None:
    case = make_case(seed, n, matrix)
    partial = root / f".case_{n:05d}.partial"
    (partial / "segmentations").mkdir(parents=True)
    _write_nifti(partial / "imaging.nii.gz", case.image, case.affine)
    for rule, label in case.labels.items():
        _write_nifti(partial / f"aggregated_{rule}_seg.nii.gz", label, case.affine)
    for (kind, number), (box, masks) in case.annotations.items():
        for annotation, mask in enumerate(masks, 1):
            whole = np.zeros(case.image.shape, np.uint8, order="F")
            whole[box] = mask
            name = f"{kind}_instance-{number}_annotation-{annotation}.nii.gz"
            _write_nifti(partial / "segmentations" / name, whole, case.affine)
    counts = {kind: sum(k == kind for k, _ in case.annotations) for kind in CLASSES[1:]}
    record = {"spacing_mm": case.spacing_mm, "shape": case.image.shape, "phase": case.phase}
    _write_json(partial / "phantom.json", record | {"instances": counts})
    partial.replace(_folder(root, n))


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)  # nibabel compresses at level 1
