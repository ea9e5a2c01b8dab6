"""The official annotation samples of KiTS21: whole label maps that mix a case's annotators.

A sample takes one annotation of every instance. KiTS21 scores a prediction against each sample and
averages; its starter code draws the samples at random from the case's number.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from kitsjax.data.instances import Instance
from kitsjax.data.paint_instances import paint_sample
from kitsjax.files import atomic_write
from kitsjax.image.volume import Grid
from kitsjax.image.write_nifti import write_label
from kitsjax.labels import KITS

GROUPS = 5
"""KiTS21's starter code draws this many groups of samples for each case."""


class Sample(NamedTuple):
    """An official annotation sample: the choice of one annotation for every instance.

    Attributes:
        name: path of its file, `group_0/kidney_i1a2_i2a1_cyst_i1a1_tumor_i1a1.nii.gz`: annotation 2
            of kidney 1, annotation 1 of kidney 2, and so on.
        choice: for each instance, the index (from 0) of the annotation among its masks.
    """

    name: str
    choice: tuple[int, ...]


def draw_samples(case_number: int, instances: Sequence[Instance]) -> list[Sample]:
    """Draw the official annotation samples of a case, exactly as KiTS21's starter code does.

    In each of five groups every instance gets a random offset, and sample i of the group takes its
    annotation (offset + i) mod (number of its annotations). A group has as many samples as the
    instance with the fewest annotations has, so no group repeats an annotation of that instance.

    Args:
        case_number: 21 for case_00021; it seeds the draws.
        instances: all instances of the case, in the order of `read_instances`. Without instances
            there are no samples.
    """
    counts = [len(instance.masks) for instance in instances]
    rng = np.random.RandomState(case_number)
    samples = []
    for group in range(GROUPS):
        offsets = [int(rng.randint(0, count)) for count in counts]
        for i in range(min(counts, default=0)):
            pairs = zip(offsets, counts, strict=True)
            choice = tuple((offset + i) % count for offset, count in pairs)
            samples.append(Sample(f"group_{group}/{_file_name(instances, choice)}", choice))
    return samples


def write_samples(
    folder: str | Path,
    instances: Sequence[Instance],
    samples: Sequence[Sample],
    grid: Grid,
) -> None:
    """Write samples as label files under `folder`, in the layout of their names.

    The folder of each group is written atomically and replaces an older one.

    Args:
        folder: folder that gets the folders group_0, group_1, ...
        instances: the instances that the samples were drawn from.
        samples: the samples to write.
        grid: the case's grid, with the header of a file, whose layout the sample files get.

    Raises:
        InputError: The folder cannot be written.
    """
    assert grid.header is not None
    for group, members in groupby(samples, lambda sample: PurePosixPath(sample.name).parent):
        with atomic_write(Path(folder) / group) as temporary:
            for name, choice in members:
                painted = paint_sample(instances, choice, grid.shape)
                write_label(temporary / PurePosixPath(name).name, painted, grid.header)


def _file_name(instances: Sequence[Instance], choice: Sequence[int]) -> str:
    """Return a sample's file name: all kinds in painting order, also those without instances."""
    parts = []
    for label in KITS.paint_order:
        parts.append(KITS.names[label])
        for instance, index in zip(instances, choice, strict=True):
            if instance.kind == KITS.names[label]:
                parts.append(f"i{instance.number}a{instance.annotation_numbers[index]}")
    return "_".join(parts) + ".nii.gz"
