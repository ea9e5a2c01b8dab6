"""The phantom as a data set in KiTS21's layout: case folders, and the record `phantom.json`."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.errors import InputError, UnforeseenError
from kitsjax.failures import describe_failure
from kitsjax.files import move_new, remove_leftovers, temporary_beside, write_text
from kitsjax.input_file import advise_reading
from kitsjax.labels import KITS
from kitsjax.phantom.annotators import ANNOTATORS
from kitsjax.phantom.case import VERSION, PhantomCase, make_case
from kitsjax.phantom.wide.case import WIDE_VERSION, make_wide_case
from kitsjax.process_pool import map_cases
from kitsjax.processes import own_order


class Domain(NamedTuple):
    """A kind of phantom.

    Attributes:
        version: number of what it draws; another one's cases are not mixed with these.
        make_case: makes a case from (seed, n, matrix).
    """

    version: int
    make_case: Callable[[int, int, int], PhantomCase]


DOMAINS = {"plain": Domain(VERSION, make_case), "wide": Domain(WIDE_VERSION, make_wide_case)}

NOTHING = Instance("kidney", 1, (slice(0, 1),) * 3, np.zeros((ANNOTATORS, 1, 1, 1), bool))
"""What the annotators draw of a case without kidneys: without any file it would seem that none of
them had looked at it."""


def make_phantom(
    root: str | Path,
    cases: int,
    matrix: int = 512,
    seed: int = 0,
    workers: int = 0,
    progress: bool = True,
    domain: str = "plain",
) -> None:
    """Write a phantom data set to a folder; cases that it already holds are kept.

    A case is written atomically, so a killed run leaves complete cases only. Several processes may
    make one phantom at once: they share the work, and each case is made once. The
    voxels do not depend on the number of workers. `root/phantom.json` records the parameters, and
    spacing, phase and instances of each case.

    Args:
        root: the folder.
        cases: number of cases.
        matrix: number of voxels across a slice.
        seed: case n depends on (seed, n) alone.
        workers: number of processes; 0: one for each core.
        progress: show a progress bar.
        domain: a key of `DOMAINS`.

    Raises:
        InputError: `root` holds other data, or a phantom of another domain, seed, matrix or
            version, or cannot be written; or a case could not be made, and then all others are.
    """
    root = Path(root)
    version = DOMAINS[domain].version
    parameters: dict[str, int | str] = {
        "domain": domain, "version": version, "seed": seed, "matrix": matrix,
    }  # fmt: skip
    try:
        _claim(root, parameters)
        missing = own_order(n for n in range(cases) if not _case_folder(root, n).is_dir())
        write = partial(_write_case, root, domain, seed, matrix)
        failures = []
        for n, failure in map_cases(write, missing, workers, "phantom", progress):
            if isinstance(failure, UnforeseenError):
                failures.append(describe_failure(failure, _case_folder(root, n), root))
            elif failure:
                # The disk is full, for example: no other case can be written either.
                raise failure
        _record_cases(root, parameters)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{root}: cannot write the phantom ({reason}); free space there or name another folder"
        ) from None
    if failures:
        raise InputError(
            f"{root}: {len(failures)} of {cases} cases could not be made, all others are there; "
            f"{min(failures)}"
        )


def _record_cases(root: Path, parameters: dict[str, int | str]) -> None:
    """Write the record of the phantom's cases, until it has all that are there."""
    recorded, found = None, sorted(root.glob("case_*"))
    while found != recorded:
        records = {folder.name: _read_json(folder / "phantom.json") for folder in found}
        _write_json(root / "phantom.json", parameters | {"cases": records})
        # Another process may have made more meanwhile.
        recorded, found = found, sorted(root.glob("case_*"))


def _case_folder(root: Path, n: int) -> Path:
    return root / f"case_{n:05d}"


def _claim(root: Path, parameters: dict[str, int | str]) -> None:
    """Reserve `root` for the phantom of these parameters, and remove what a killed run left.

    Raises:
        InputError: `root` holds other data, or a phantom of other parameters.
    """
    record = root / "phantom.json"
    root.mkdir(parents=True, exist_ok=True)
    # The record comes before the cases, so in this order another process's are no other data.
    other_data = any(not path.name.startswith(".") for path in root.iterdir())
    if not record.exists():
        if other_data:
            raise InputError(f"{root}: holds other data; name an empty folder for the phantom")
        with temporary_beside(record) as temporary:
            _write_json(temporary, parameters | {"cases": {}})
            move_new(temporary, record)
    # Records of earlier versions do not name the domain, which was the only one.
    found = {"domain": "plain"} | _read_json(record)
    for name, value in parameters.items():
        if found.get(name) != value:
            raise InputError(
                f"{root}: holds a phantom of {name} {found.get(name)}, not {value}; "
                "remove it or name another folder"
            )
    remove_leftovers(root)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the record ({error.strerror}); "
            + advise_reading(error, "remove the folder that should hold it")
        ) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the record of a phantom; remove the folder that holds it")
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def _write_case(root: Path, domain: str, seed: int, matrix: int, n: int) -> None:
    """Make one case and write its folder atomically, unless another process has made it since."""
    if _case_folder(root, n).is_dir():
        return
    case = DOMAINS[domain].make_case(seed, n, matrix)
    record = {
        "spacing_mm": case.spacing_mm,
        "shape": case.image.shape,
        "phase": case.phase,
        "features": case.features,
        "instances": {kind: sum(i.kind == kind for i in case.instances) for kind in KITS.names[1:]},
    }
    with temporary_beside(_case_folder(root, n)) as folder:
        (folder / "segmentations").mkdir(parents=True)
        _write_nifti(folder / "imaging.nii.gz", case.image, case.affine)
        for rule, label in case.labels.items():
            _write_nifti(folder / f"aggregated_{rule}_seg.nii.gz", label, case.affine)
        for instance in case.instances or [NOTHING]:
            for annotation, mask in enumerate(instance.masks, 1):
                full_mask = np.zeros(case.image.shape, np.uint8, order="F")
                full_mask[instance.region] = mask
                stem = f"{instance.kind}_instance-{instance.number}"
                name = f"{stem}_annotation-{annotation}.nii.gz"
                _write_nifti(folder / "segmentations" / name, full_mask, case.affine)
        _write_json(folder / "phantom.json", record)
        move_new(folder, _case_folder(root, n))


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    # NIfTI stores the first axis fastest. NumPy reorders the array faster than nibabel, which
    # would do so one voxel at a time.
    image = nib.Nifti1Image(np.asfortranarray(array), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
