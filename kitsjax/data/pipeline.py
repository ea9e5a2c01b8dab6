"""grain: preprocessed cases -> this host's batches of source patches.

The stream is a pure function of (seed, batch index): any number of threads gives the same
batches, and a run is resumed by starting at the batch it had reached, with nothing to save but
that number.
"""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import grain
import numpy as np

from kitsjax.data.label_source import read_label_patch
from kitsjax.data.patches import draw_start, forced_foreground, oversized_start, read_patch
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.labels import MAJORITY
from kitsjax.settings import SamplingSettings
from kitsjax.types import Shape


class Batch(TypedDict):
    """One host's share of a batch.

    image (b, z, y, x) float16 or float32 and label (b, z, y, x) uint8 are source patches; case
    (b,) int32 indexes the cases of the pipeline; index (b,) int32 numbers samples over the whole
    run and all hosts (modulo 2**31), from which the randomness of the augmentation follows.
    """

    image: np.ndarray
    label: np.ndarray
    case: np.ndarray
    index: np.ndarray


def batches(
    cases: Sequence[PreprocessedCase],
    settings: SamplingSettings,
    oversized_shape: Shape,
    *,
    seed: int,
    start: int = 0,
    host: int = 0,
    hosts: int = 1,
    label_source: str = MAJORITY,
) -> Iterator[Batch]:
    """An endless stream of this host's share of every batch, from batch `start` on.

    Cases come in a new random order at each pass, every case once a pass. Host h has the samples
    h, h + hosts, h + 2 hosts ... of a global batch.

    Args:
        oversized_shape: (z, y, x) of what is read around each patch, at least the patch.
        start: batches already consumed.
        host, hosts: this process and their number; hosts must divide the batch.
        label_source: `data.label_source`; the patches lie at the same places whatever it is,
            centered on foreground of the majority label.

    Raises:
        InputError: at a case without the annotations that `label_source` asks for.
    """
    if settings.batch_size % hosts:
        raise ValueError(f"{hosts} hosts do not divide a batch of {settings.batch_size}")
    share = settings.batch_size // hosts

    def read(element: tuple[int, int], rng: np.random.Generator) -> Batch:
        index, number = element
        slot = index % settings.batch_size // hosts
        forced = forced_foreground(slot, share, settings.foreground_fraction)
        case = cases[number]
        at = draw_start(rng, case, settings.patch_shape, forced)
        at = oversized_start(at, settings.patch_shape, oversized_shape)
        return Batch(
            image=read_patch(case.image(), at, oversized_shape),
            # The last of the visit's draws, so that the others do not depend on the source.
            label=read_label_patch(case, label_source, at, oversized_shape, rng),
            case=np.asarray(number, np.int32),
            index=np.asarray(index % 2**31, np.int32),
        )

    stream = (
        grain.MapDataset.range(len(cases))
        .seed(seed)
        .shuffle()
        .repeat()
        .map_with_index(lambda index, case: (index, case))
        .random_map(read)
        # Everything is lazy: sliced after the draws, which so depend on the global index alone.
        .slice(slice(host, None, hosts))
        .batch(share)
        .slice(slice(start, None))
    )
    options = grain.ReadOptions(settings.threads, settings.prefetch)
    return iter(stream.to_iter_dataset(options))
