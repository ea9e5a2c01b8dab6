"""The batches of a run: this host's share of training and validation patches."""

from collections.abc import Callable, Iterator, Sequence

import jax

from kitsjax.data.pipeline import Batch, batches
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.settings import Settings
from kitsjax.train.augment import oversized_shape
from kitsjax.train.checkpoint_record import Progress

Cases = Sequence[PreprocessedCase]

Streams = tuple[Iterator[Batch], Iterator[Batch]]
"""Endless training batches, and endless validation batches."""

OpenStreams = Callable[[Settings, Cases, Cases, Progress], Streams]
"""(settings, training cases, validation cases, progress) -> the streams from there on."""


def open_pipelines(
    settings: Settings, train_cases: Cases, validation_cases: Cases, progress: Progress
) -> Streams:
    """Open this host's share of the training and validation batches, from a run's progress on."""
    train, sampling = settings.train, settings.sampling
    host, hosts = jax.process_index(), jax.process_count()
    training = batches(
        train_cases, sampling, oversized_shape(sampling.patch_shape, settings.augment),
        preprocess=settings.preprocess, seed=train.seed, start=progress.step,
        host=host, hosts=hosts, label_source=settings.data.label_source,
    )  # fmt: skip
    # Validation uses the majority label, so that runs on other label sources can be compared.
    validation = batches(
        validation_cases, sampling, sampling.patch_shape, preprocess=settings.preprocess,
        # Another seed than the training's gives other random patches, even of the same cases.
        seed=train.seed + 1, start=progress.epoch * train.validation_batches,
        host=host, hosts=hosts,
    )  # fmt: skip
    return training, validation
