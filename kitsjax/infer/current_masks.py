"""Masks that an earlier prediction left: whole, and of the present models, settings and CT or not.

The header of each mask and of each probability file holds a key in its field `descrip`: a hash of
everything that the voxels depend on.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import nibabel as nib
import numpy as np
from isal import igzip

from kitsjax.dicom.read_volume import Source, files_of, read_grid
from kitsjax.dicom.series import Series
from kitsjax.image.read_nifti import read_label
from kitsjax.image.volume import check_same_grid
from kitsjax.infer.trained_model import FREE_PREDICT, Ensemble, strip_how
from kitsjax.input_file import reading
from kitsjax.labels import LabelScheme
from kitsjax.settings import PredictSettings

FORMAT = 1
"""The version of how voxels are made of all that the key holds. It goes up when another version of
kitsjax makes other voxels of the same, so that masks of older ones are predicted again."""


def identify_models(ensemble: Ensemble, settings: PredictSettings) -> str:
    """Hash the parameters and settings of all models, and the settings of prediction.

    What only says how they are computed is left out, such as the batch size.
    """
    model = ensemble.model
    text = [
        FORMAT, repr(strip_how(model.network)), model.patch_shape, repr(model.scheme),
        [image.model_dump(mode="json") for image in ensemble.images], ensemble.image_of,
        settings.model_dump(mode="json", exclude=set(FREE_PREDICT)),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(text).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(ensemble.params):
        array = np.asarray(leaf, order="C")
        name = jax.tree_util.keystr(path)
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(array.data)
    return digest.hexdigest()


def mask_key(models: str, source: Source) -> str:
    """Make the key of the mask of a CT file, which fits the 80 bytes of `descrip`.

    Args:
        models: what `identify_models` returns.
        source: the CT; name, size and time of change of each of its files count, and the UID of a
            DICOM series.

    Raises:
        InputError: A file is missing, or may not be read.
    """
    text: list[str | int] = [models]
    for file in files_of(source):
        with reading(file):
            try:
                found = file.stat()
            except OSError as error:
                if isinstance(source, Series):
                    # The path may hold the patient's name.
                    error.filename = f"{source}: {source.name(file)}"
                raise
        text += [file.name, found.st_size, found.st_mtime_ns]
    if isinstance(source, Series):
        text.append(source.first.series)
    digest = hashlib.sha256(json.dumps(text).encode()).hexdigest()
    return f"kitsjax {digest}"


def is_current_mask(mask: Path, source: Source, key: str, scheme: LabelScheme) -> bool:
    """Check that a mask has this key, and reads as labels of the scheme on the grid of its CT."""
    try:
        header = read_grid(mask).header
        if header is None or not _has_key(header.nifti, key):
            return False
        check_same_grid(read_grid(source), read_label(mask, scheme.values).grid)
    except Exception:
        # Whatever is wrong with a mask, a new one is made.
        return False
    return True


def has_key(path: Path, key: str) -> bool:
    """Tell whether a NIfTI file has this key; one that cannot be read has none."""
    try:
        # Opening a pipe would wait forever.
        return path.is_file() and _has_key(nib.load(path).header, key)
    except Exception:
        return False


def is_current_probabilities(path: Path, key: str) -> bool:
    """Check that a probability file has this key, and unpacks to the size that its header says."""
    if not has_key(path, key):
        return False
    try:
        image: Any = nib.load(path)
        proxy = image.dataobj
        size = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
        with igzip.open(path) as stream:
            while block := stream.read(2**20):
                size -= len(block)
    except Exception:
        return False
    return size == 0


def _has_key(header: Any, key: str) -> bool:
    return bytes(header["descrip"].item()).rstrip(b"\0") == key.encode()
