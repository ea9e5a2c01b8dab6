"""The pipeline: this host's batches of oversized patches from preprocessed cases, by grain.

The stream is a pure function of the seed and the batch index: any number of threads gives the same
batches. A run is resumed by opening the stream at the batch that it had reached, so that number is
all there is to save.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypedDict

import grain
import numpy as np

from kitsjax.data.label_source import read_label_patch
from kitsjax.data.normalization import Normalization, choose_normalization, make_table
from kitsjax.data.patches import draw_start, forced_foreground, oversized_start, read_patch
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.labels import MAJORITY
from kitsjax.settings import PreprocessSettings, SamplingSettings
from kitsjax.types import Shape

TABLES = 32
"""Number of tables of normalization that are kept, 128 KiB or 256 KiB each.

With more cases that each have their own, one is made again when it is needed, in 0.25 ms.
"""

PASSES = 4
"""Number of passes over the cases whose order is kept: threads read ahead into the next ones."""


class Batch(TypedDict):
    """One host's share of a batch.

    Attributes:
        image: oversized patches (b, z, y, x), float16 or float32.
        label: their labels (b, z, y, x), uint8.
        case: (b,) int32, the index of each patch's case among the cases of the pipeline.
        index: (b,) int32, the number of each sample in the whole run, counted over all hosts
            (modulo 2**31). The randomness of its augmentation follows from it.
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
    preprocess: PreprocessSettings,
    seed: int,
    start: int = 0,
    host: int = 0,
    hosts: int = 1,
    label_source: str = MAJORITY,
) -> Iterator[Batch]:
    """Open an endless stream of this host's share of every batch.

    Cases come in a new random order at each pass, and every case comes once in a pass. Host h gets
    the samples h, h + hosts, h + 2 hosts ... of a global batch.

    Args:
        cases: the cases to draw patches from.
        settings: patch shape, batch size, foreground oversampling and its class weights.
        oversized_shape: (z, y, x) of the oversized patches, at least the patch shape.
        preprocess: how the stored HU are normalized, and the type of the patches.
        seed: seed of all draws.
        start: index of the first batch: the number of batches already consumed.
        host: index of this process.
        hosts: number of processes, which must divide the batch size.
        label_source: which label the patches get. It does not change where the patches lie: those
            centered on foreground are centered on foreground of the majority label.

    Raises:
        ValueError: The hosts do not divide the batch size.
        InputError: A case was preprocessed without the annotations that `label_source` needs;
            raised when its patch is read. Or "foreground" normalizes, and the settings have no
            intensities; raised likewise.
    """
    if settings.batch_size % hosts:
        raise ValueError(f"{hosts} hosts do not divide a batch of {settings.batch_size}")

    @cache
    def normalization(number: int) -> Normalization:
        return choose_normalization(preprocess, cases[number].histogram)

    @lru_cache(TABLES)
    def table(normalization: Normalization) -> np.ndarray:
        return make_table(normalization, preprocess.dtype)

    reader = _PatchReader(
        cases, settings, oversized_shape, hosts, label_source,
        table=lambda number: table(normalization(number)),
    )  # fmt: skip
    case_at = order_cases(len(cases), seed)
    stream = (
        grain.MapDataset.range(len(cases))
        .seed(seed)
        # Far more than any run takes; grain's count of endless batches of one overflows (0.2.18).
        .repeat(2**40)
        .map_with_index(lambda index, _: (index, case_at(index)))
        .random_map(reader.read)
        # Datasets are lazy. Slicing by host comes after the draws, so that these depend on the
        # global sample index alone.
        .slice(slice(host, None, hosts))
        .batch(settings.batch_size // hosts)
        .slice(slice(start, None))
    )
    # A thread reads a whole batch, so with fewer batches in advance some threads would stand idle.
    advance = max(settings.prefetch, settings.threads)
    options = grain.ReadOptions(settings.threads, advance)
    return iter(stream.to_iter_dataset(options))


def order_cases(count: int, seed: int) -> Callable[[int], int]:
    """Order the cases anew for each pass over them.

    It does what grain's `shuffle` does, whose cipher permutes 65,536 numbers to find one below a
    smaller count: 4 ms of a core for each sample of six cases (grain 0.2.18).

    Args:
        count: number of cases.
        seed: seed of all passes.

    Returns:
        A function that takes the index of a sample, from 0, and returns the number of its case.
        Each case has one sample in each `count` of them.
    """

    @lru_cache(PASSES)
    def permutation(number: int) -> np.ndarray:
        return np.random.default_rng((seed, number)).permutation(count)

    return lambda index: int(permutation(index // count)[index % count])


@dataclass(frozen=True)
class _PatchReader:
    """Reads the patch of a sample; the fields are parameters of `batches`, and `table`.

    Attributes:
        table: returns the table that normalizes a case, by its number.
    """

    cases: Sequence[PreprocessedCase]
    settings: SamplingSettings
    oversized_shape: Shape
    hosts: int
    label_source: str
    table: Callable[[int], np.ndarray]

    def read(self, element: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Read the patch of (sample index, case number) with the draws of the sample's `rng`."""
        index, number = element
        settings, case = self.settings, self.cases[number]
        slot = index % settings.batch_size // self.hosts
        share = settings.batch_size // self.hosts
        forced = forced_foreground(slot, share, settings.foreground_fraction)
        start = draw_start(rng, case, settings.patch_shape, forced, settings.class_weights)
        start = oversized_start(start, settings.patch_shape, self.oversized_shape)
        return Batch(
            image=read_patch(case.image(), start, self.oversized_shape, self.table(number)),
            # The label draws last, so that the other draws do not depend on its source.
            label=read_label_patch(case, self.label_source, start, self.oversized_shape, rng),
            case=np.asarray(number, np.int32),
            index=np.asarray(index % 2**31, np.int32),
        )
