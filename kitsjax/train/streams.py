"""The batches of a run: this host's share of training and validation patches, sent ahead."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Self

import jax

from kitsjax.data.pipeline import Batch, batches
from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.settings import Settings
from kitsjax.train.augment import oversized_shape
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.replication import send

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


class Feed:
    """The batches of a stream, of which the next is sent to the devices before it is needed.

    Args:
        stream: this host's share of every batch.
        names: names of the arrays that the step takes.
        count: number of batches that will be taken; no more are read.
    """

    def __init__(self, stream: Iterator[Batch], names: Sequence[str], count: int) -> None:
        self._stream = islice(stream, count)
        self._names = names
        self._sent: tuple[Batch, dict[str, jax.Array]] | None = None

    def send_next(self) -> None:
        """Read the next batch and begin to send it, unless that was done or none is left."""
        if self._sent is None and (batch := next(self._stream, None)) is not None:
            arrays = dict(batch)
            self._sent = batch, send({name: arrays[name] for name in self._names})

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Batch, dict[str, jax.Array]]:
        """Return the next batch, and its arrays on the devices."""
        self.send_next()
        if self._sent is None:
            raise StopIteration
        taken, self._sent = self._sent, None
        return taken


def open_feeds(
    settings: Settings, train_cases: Cases, validation_cases: Cases, progress: Progress,
    open_streams: OpenStreams,
) -> tuple[Feed, Feed]:  # fmt: skip
    """Open the batches of training and of validation, from a run's progress to its end."""
    train = settings.train
    training, validation = open_streams(settings, train_cases, validation_cases, progress)
    steps = train.epochs * train.batches - progress.step
    validations = (train.epochs - progress.epoch) * train.validation_batches
    return (
        Feed(training, ("image", "label", "index"), steps),
        Feed(validation, ("image", "label"), validations),
    )
