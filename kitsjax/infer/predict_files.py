"""Segment CT files: readers, the devices and writers work at the same time.

    files -> readers, in threads -> devices, fed by a thread -> way back -> writers, in threads

Each arrow holds a few items at most, so memory does not grow with the number of files.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kitsjax.data.preprocess import preprocess_images
from kitsjax.dicom.read_volume import Source, read_volume
from kitsjax.dicom.segmentation import check_referable, convert_mask, segmentation_path
from kitsjax.dicom.series import Series
from kitsjax.errors import InputError
from kitsjax.failures import catch, describe_failure
from kitsjax.files import check_file, remove_leftovers
from kitsjax.image.volume import Grid
from kitsjax.infer.current_masks import (
    identify_models,
    is_current_mask,
    is_current_probabilities,
    mask_key,
)
from kitsjax.infer.find_inputs import probabilities_path
from kitsjax.infer.outputs import Outputs, make_on_disk, note_older
from kitsjax.infer.predict import SLABS_AHEAD, needs_probabilities, to_native
from kitsjax.infer.predict_slabs import explain_memory, predict_slabs
from kitsjax.infer.run_ahead import iterate_ahead, map_ahead
from kitsjax.infer.slab_sums import Slab, take_image
from kitsjax.infer.trained_model import Ensemble, Models, stack_models
from kitsjax.process_pool import cores
from kitsjax.settings import PredictSettings
from kitsjax.types import Shape

_logger = logging.getLogger(__name__)

MOST_READERS = 4
"""At most so many CTs are read at once, and at most one for two cores, as one takes a gigabyte."""

WRITERS = 2
"""So many masks are written at once."""

MOST_CPU_DEVICES = 8
"""The most devices that prediction splits the CPU into: each needs memory for a window."""

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
    """Segment files on all local devices; a file that fails does not stop the others.

    Masks are uint8 NIfTI with exactly their CT's grid and storage. An existing output stays as it
    is until the new one is whole. What a killed prediction left half written is removed.

    Args:
        models: a model, or a sequence of them, whose probabilities are averaged.
        files: pairs (CT, mask to write), as `find_inputs.find_inputs` lists them.
        settings: how to predict; None: as the (first) model's settings say.
        probabilities: also write `<name>_probabilities.nii.gz` beside the mask: float32, 4-D with
            the classes last, resampled to the CT's grid as `settings.resample` says, so that its
            argmax is the mask before post-processing. A temporary file in the masks' folder holds
            4 bytes a class for each voxel of the CT meanwhile.
        keep_current: leave masks as they are that are whole, and were predicted from the same CT
            file by the same models and settings; a note says how many. With `probabilities`, their
            file must be so, too.
        progress: show a progress bar.
        dicom_seg: also write each DICOM series' mask as DICOM SEG beside it.

    Returns:
        (CT, message) of every CT that failed. Tracebacks of unforeseen errors are in `errors.log`
        beside the masks.

    Raises:
        InputError: no model, or models that differ (`stack_models`).
    """
    ensemble = stack_models(models)
    settings = settings or ensemble.model.predict
    for folder in {target.parent for _, target in files}:
        remove_leftovers(folder)
    with tqdm(desc="predict", total=len(files), unit="case", disable=not progress) as bar:
        work = _Work(
            ensemble,
            settings,
            identify_models(ensemble, settings),
            probabilities,
            keep_current,
            dicom_seg,
            bar,
        )
        work.predict(files)
    if kept := sum(result is None for result in work.results.values()):
        _logger.warning(
            "%s: %d of %d masks are whole and current, and left as they were",
            files[0][1].parent, kept, len(files),
        )  # fmt: skip
    failures = ((file[0], work.results[file]) for file in files)
    return [(source, line) for source, line in failures if line]


def best_cpu_devices() -> int:
    """Return into how many devices to split the CPU where there is no accelerator."""
    return min(cores(), MOST_CPU_DEVICES)


@dataclass(frozen=True, eq=False)
class _Case:
    """A CT that is being predicted.

    Attributes:
        file: the CT, and the mask to write.
        shape: (z, y, x) of its preprocessed image.
        like: an array of the CT's shape and memory layout, whose voxels do not matter.
        grid: the CT's.
        key: what the mask depends on, see `current_masks`.
    """

    file: _File
    shape: Shape
    like: np.ndarray
    grid: Grid
    key: str


@dataclass(frozen=True)
class _Work:
    """The prediction of some files.

    Attributes:
        identity: hash of models and settings.
        bar: counts the files that are done.
        results: for each file that is done the line that says why it failed, "" if it did not, or
            None if its mask was current and left as it was.
        lock: of the bar, which several threads move.
    """

    ensemble: Ensemble
    settings: PredictSettings
    identity: str
    probabilities: bool
    keep_current: bool
    dicom_seg: bool
    bar: Any
    results: dict[_File, str | None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def predict(self, files: Sequence[_File]) -> None:
        """Predict the files and write the masks."""
        by_class = needs_probabilities(self.settings, self.probabilities)
        slabs = predict_slabs(self.ensemble, self._read_all(files), self.settings, by_class)
        outputs = self._bring_back(iterate_ahead(slabs, SLABS_AHEAD))
        for _ in map_ahead(self._write, outputs, WRITERS):
            pass

    def _note(self, file: _File, result: InputError | str | None) -> None:
        """Note how a file ended, and write its traceback to the log if there is one."""
        if isinstance(result, InputError):
            result = describe_failure(result, str(file[0]), file[1].parent)
        self.results[file] = result
        with self.lock:
            self.bar.update()

    def _read_all(self, files: Sequence[_File]) -> Iterator[tuple[_Case, np.ndarray]]:
        """Read and preprocess the CTs, several at once; note which failed or need nothing."""
        readers = min(MOST_READERS, max(1, cores() // 2))
        read = map_ahead(self._read, files, readers)
        for file, result in zip(files, read, strict=True):
            if isinstance(result, InputError) or result is None:
                self._note(file, result)
            else:
                yield result

    def _read(self, file: _File) -> tuple[_Case, np.ndarray] | None:
        """Read and preprocess a CT; None if its mask is current and to be kept.

        The destination is tested first, so that no CT is read for a mask that cannot be written.
        """
        source, target = file
        outputs = [target, probabilities_path(target)] if self.probabilities else [target]
        for path in [*outputs, segmentation_path(target)] if self.dicom_seg else outputs:
            check_file(path, "--output")
        if self.dicom_seg and isinstance(source, Series) and not source.problem:
            check_referable(source)
        key = mask_key(self.identity, source)
        if (
            self.keep_current
            and is_current_mask(target, source, key, self.ensemble.model.scheme)
            and all(is_current_probabilities(path, key) for path in outputs[1:])
        ):
            self._convert(file)
            return None
        volume = read_volume(source)
        images = preprocess_images(volume, self.ensemble.images)
        _, z, y, x = images.shape
        like = np.empty_like(volume.array, np.uint8)
        return _Case(file, (z, y, x), like, volume.grid, key), images

    def _bring_back(
        self, slabs: Iterator[tuple[_Case, Slab | Exception]]
    ) -> Iterator[tuple[_Case, Outputs]]:
        """Make the outputs of each case from its slabs, on its CT's own grid; note which failed."""
        for case, group in groupby(slabs, key=itemgetter(0)):
            slabs_of_case = take_image((slab for _, slab in group), case.shape[0])
            outputs = catch(self._bring_back_one, case, slabs_of_case)
            if isinstance(outputs, InputError):
                self._note(case.file, outputs)
            else:
                yield case, outputs

    def _bring_back_one(self, case: _Case, slabs: Iterator[Slab | Exception]) -> Outputs:
        by_class, scheme = None, self.ensemble.model.scheme
        if self.probabilities:
            by_class = make_on_disk((len(scheme.names), *case.like.shape), case.file[1])
        with explain_memory(case.file[0]):
            label = to_native(
                slabs, case.shape, case.like, case.grid, self.settings, scheme, by_class
            )
        assert case.grid.header is not None
        return Outputs(label, by_class, case.grid.header, case.key)

    def _write(self, predicted: tuple[_Case, Outputs]) -> None:
        """Write the outputs of a case; note how it ended."""
        case, outputs = predicted
        failure = catch(outputs.write, case.file[1]) or catch(self._convert, case.file)
        self._note(case.file, failure or catch(note_older, *case.file, case.key) or "")

    def _convert(self, file: _File) -> None:
        """Write the DICOM SEG of a mask if it is asked for and not current."""
        source, mask = file
        if self.dicom_seg and isinstance(source, Series):
            convert_mask(mask, source, self.ensemble.model.scheme)
