"""Segment CT files, reading the next one while the device computes."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from kitsjax.data.preprocess import preprocess
from kitsjax.dicom.read_volume import Source, read_volume
from kitsjax.dicom.segmentation import convert_mask, segmentation_path
from kitsjax.dicom.series import Series
from kitsjax.errors import InputError
from kitsjax.failures import catch, describe_failure
from kitsjax.files import check_file, remove_leftovers
from kitsjax.image.volume import Grid
from kitsjax.image.write_nifti import write_label, write_volume
from kitsjax.infer.current_masks import (
    identify_models,
    is_current_mask,
    is_current_probabilities,
    mask_key,
)
from kitsjax.infer.find_inputs import probabilities_path
from kitsjax.infer.predict import predict_native
from kitsjax.infer.trained_model import Ensemble, Models, stack_models
from kitsjax.labels import CLASSES
from kitsjax.settings import PredictSettings

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_File = tuple[Source, Path]
"""A CT, and the mask to write."""


def predict_files(
    models: Models,
    files: Sequence[_File],
    settings: PredictSettings | None = None,
    probabilities: bool = False,
    keep_current: bool = False,
    progress: bool = True,
    dicom_seg: bool = False,
) -> list[tuple[Source, str]]:
    """Segment files one after another; a file that fails does not stop the others.

    Masks are uint8 NIfTI with exactly their CT's grid and storage. An existing output stays as it
    is until the new one is whole. What a killed prediction left half written is removed.

    Args:
        models: a model, or a sequence of them, whose probabilities are averaged.
        files: pairs (CT, mask to write), as `find_inputs.find_inputs` lists them.
        settings: how to predict; None: as the (first) model's settings say.
        probabilities: also write `<name>_probabilities.nii.gz` beside the mask: float32, 4-D with
            the classes last, resampled to the CT's grid as `settings.resample` says, so that its
            argmax is the mask. This takes 16 bytes of memory for each voxel of the CT.
        keep_current: leave masks as they are that are whole, and were predicted from the same CT
            file by the same models and settings; a note says how many. With `probabilities`, their
            file must be so, too.
        progress: show a progress bar.
        dicom_seg: also write each DICOM series' mask as DICOM SEG beside it.

    Returns:
        (CT, message) of every CT that failed. Tracebacks of unforeseen errors are in `errors.log`
        beside the masks.

    Raises:
        InputError: no model, or models that differ in network, patch shape or preprocessing.
    """
    ensemble = stack_models(models)
    settings = settings or ensemble.model.predict
    identity = identify_models(ensemble, settings)
    for folder in {target.parent for _, target in files}:
        remove_leftovers(folder)
    work = _Work(ensemble, settings, identity, probabilities, keep_current, dicom_seg)
    failures, kept = [], 0
    cases = _map_ahead(partial(_read_case, work), files)
    pairs = zip(files, cases, strict=True)
    for (source, target), case in tqdm(
        pairs, "predict", len(files), unit="case", disable=not progress
    ):
        result = catch(_predict_case, work, case, target) if isinstance(case, _Case) else case
        if isinstance(result, InputError):
            failures.append((source, describe_failure(result, str(source), target.parent)))
        kept += case is None
    if kept:
        _logger.warning(
            "%s: %d of %d masks are whole and current, and left as they were",
            files[0][1].parent, kept, len(files),
        )  # fmt: skip
    return failures


@dataclass(frozen=True)
class _Work:
    """What prediction needs to know about all files.

    Attributes:
        identity: hash of models and settings.
    """

    ensemble: Ensemble
    settings: PredictSettings
    identity: str
    probabilities: bool
    keep_current: bool
    dicom_seg: bool


class _Case(NamedTuple):
    """What prediction needs of a CT file once its voxels are preprocessed."""

    image: np.ndarray
    grid: Grid
    key: str
    source: Source


def _read_case(work: _Work, file: _File) -> _Case | None:
    """Read and preprocess a CT; None if its mask is current and to be kept.

    The destination is tested first, so that no CT is read for a mask that cannot be written.
    """
    source, target = file
    outputs = [target, probabilities_path(target)] if work.probabilities else [target]
    for path in [*outputs, segmentation_path(target)] if work.dicom_seg else outputs:
        check_file(path, "--output")
    key = mask_key(work.identity, source)
    if (
        work.keep_current
        and is_current_mask(target, source, key)
        and all(is_current_probabilities(path, key) for path in outputs[1:])
    ):
        _convert(work, source, target)
        return None
    volume = read_volume(source)
    image = preprocess(volume, work.ensemble.model.preprocess)
    return _Case(image, volume.grid, key, source)


def _predict_case(work: _Work, case: _Case, target: Path) -> None:
    """Predict the label map of a case and write it, and its probabilities if asked for."""
    by_class, header = None, case.grid.header
    assert header is not None
    if work.probabilities:
        by_class = np.empty((len(CLASSES), *case.grid.shape), np.float32)
    label = predict_native(work.ensemble, case.image, work.settings, case.grid, by_class)
    write_label(target, label, header, description=case.key)
    # After the mask, so that no probabilities lie there without one.
    if by_class is not None:
        path, classes_last = probabilities_path(target), np.moveaxis(by_class, 0, -1)
        write_volume(path, classes_last, header, description=case.key)
    _convert(work, case.source, target)


def _convert(work: _Work, source: Source, mask: Path) -> None:
    """Write the DICOM SEG of a mask if it is asked for and not current."""
    if work.dicom_seg and isinstance(source, Series):
        convert_mask(mask, source)


def _map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result | InputError]:
    """Call a function for each item in a thread, one item ahead of the one that is used.

    An exception takes the place of the result, as `failures.catch` returns it.
    """
    begun = (_begin(function, item) for item in items)
    ahead = next(begun, None)
    while ahead is not None:
        result = ahead.result()
        # This begins the next item.
        ahead = next(begun, None)
        yield result


def _begin(function: Callable[[Item], Result], item: Item) -> Future[Result | InputError]:
    """Call a function in a thread, for which an end by a signal does not wait: a read may hang."""
    future: Future[Result | InputError] = Future()

    def work() -> None:
        try:
            future.set_result(catch(function, item))
        except BaseException as error:
            future.set_exception(error)

    # Not a daemon thread: one that is stopped within a library may keep its lock, for which that
    # library waits at the end of the process. `command.exit_with` waits for neither.
    threading.Thread(target=work).start()
    return future
