"""Segment CT files, reading the next one while the device computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from tqdm import tqdm

from kitsjax.data.preprocess import preprocess
from kitsjax.errors import InputError
from kitsjax.image.file_format import nifti_stem
from kitsjax.image.header import NiftiHeader
from kitsjax.image.read_nifti import read_volume
from kitsjax.image.resample import resample_nearest
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.infer.predict import predict_label, predict_probabilities
from kitsjax.infer.trained_model import Ensemble, Models, stack_models
from kitsjax.labels import CLASSES
from kitsjax.settings import PredictSettings
from kitsjax.types import Shape

Item = TypeVar("Item")
Result = TypeVar("Result")


def predict_files(
    models: Models,
    files: Sequence[tuple[Path, Path]],
    settings: PredictSettings | None = None,
    probabilities: bool = False,
    progress: bool = True,
) -> list[tuple[Path, str]]:
    """Segment files one after another; a file that fails does not stop the others.

    Masks are uint8 NIfTI with exactly their CT's grid and storage. An existing output stays as it
    is until the new one is whole.

    Args:
        models: a model, or a sequence of them, whose probabilities are averaged.
        files: pairs (CT, mask to write), as `find_inputs.find_inputs` lists them.
        settings: how to predict; None: as the (first) model's settings say.
        probabilities: also write `<name>_probabilities.nii.gz` beside the mask: float32, 4-D with
            the classes last, resampled to the CT's grid by nearest neighbor, so that its argmax is
            the mask. This takes 16 bytes of memory for each voxel of the CT.
        progress: show a progress bar.

    Returns:
        (CT, message) of every file that failed.

    Raises:
        InputError: no model, or models that differ in network, patch shape or preprocessing.
    """
    ensemble = stack_models(models)
    settings = settings or ensemble.model.predict
    failures = []
    cases = _map_ahead(partial(_read_case, ensemble), (source for source, _ in files))
    pairs = zip(files, cases, strict=True)
    for (source, target), case in tqdm(
        pairs, "predict", len(files), unit="case", disable=not progress
    ):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _predict_case(ensemble, case.result(), target, settings, probabilities)
        except InputError as error:
            failures.append((source, str(error)))
        except (OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
            reason = next(iter(str(error).splitlines()), "out of memory")
            failures.append((source, f"{source}: cannot be predicted here ({reason})"))
    return failures


class _Case(NamedTuple):
    """What prediction needs of a CT file once its voxels are preprocessed."""

    image: np.ndarray
    native_shape: Shape
    header: NiftiHeader


def _read_case(ensemble: Ensemble, source: Path) -> _Case:
    volume = read_volume(source)
    image = preprocess(volume, ensemble.model.preprocess)
    assert volume.header is not None
    return _Case(image, volume.shape, volume.header)


def _predict_case(
    ensemble: Ensemble,
    case: _Case,
    target: Path,
    settings: PredictSettings,
    probabilities: bool,
) -> None:
    """Predict the label map of a case and write it, and its probabilities if asked for."""
    if probabilities:
        by_class = predict_probabilities(ensemble, case.image, settings)
        label = by_class.argmax(0).astype(np.uint8)
        _write_probabilities(by_class, case, target)
    else:
        label = predict_label(ensemble, case.image, settings)
    write_label(target, resample_nearest(label, case.native_shape), case.header)


def _write_probabilities(by_class: np.ndarray, case: _Case, target: Path) -> None:
    native = np.empty((len(CLASSES), *case.native_shape), np.float32)
    for image, out in zip(by_class, native, strict=True):
        out[:] = resample_nearest(image, case.native_shape)
    name = f"{nifti_stem(target.name) or target.name}_probabilities.nii.gz"
    write_volume(target.with_name(name), np.moveaxis(native, 0, -1), case.header)


def _map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Future[Result]]:
    """Call a function for each item in a thread, one item ahead of the one that is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        futures: deque[Future[Result]] = deque()
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > 1:
                yield futures.popleft()
        yield from futures
