"""Checkpoints of a run: its state and progress, written by Orbax in the background."""

import copy
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from kitsjax.errors import InputError
from kitsjax.model.arrays import Params
from kitsjax.train.checkpoint_errors import DamagedCheckpointError, explain_restore, explain_save
from kitsjax.train.checkpoint_handlers import RecordRestore, RecordSave, make_handlers
from kitsjax.train.checkpoint_hosts import options_across_hosts
from kitsjax.train.checkpoint_record import (
    Progress,
    Record,
    describe_leaves,
    first_difference,
    flatten,
)
from kitsjax.train.damaged_checkpoints import remove_unfinished, set_aside
from kitsjax.train.state import TrainState

Tree = TypeVar("Tree")

_logger = logging.getLogger(__name__)

_PARAMS, _OPTIMIZER, _AVERAGE, _RECORD = "params", "optimizer", "average", "record"


class Checkpoints:
    """The checkpoints of a run folder: the latest two, and the one of the best pseudo-Dice average.

    Orbax verifies that files are complete but not what is in them. So the hash, shape and type of
    each leaf are stored beside the arrays and compared before a checkpoint is used.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        # Orbax logs a failure in its background threads and raises it again here, where it becomes
        # one line. So its log is silenced.
        for name in ("absl", "asyncio", "concurrent.futures"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        remove_unfinished(self.folder)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self, **options_across_hosts(self.folder)
        )
        self._handlers = make_handlers((_PARAMS, _OPTIMIZER, _AVERAGE), _RECORD)
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=self._handlers
        )
        self._last_save = time.monotonic()
        self._scores: dict[int, float] = {}
        # Nobody knows how good these are: one of them may have been the best.
        self._unreadable: dict[int, InputError] = {}
        for number in self._manager.all_steps():
            try:
                record = self._read_record(number)
                self._note_score(record.progress, record.scored)
            except DamagedCheckpointError as error:
                self._unreadable[number] = error

    @property
    def numbers(self) -> list[int]:
        """Numbers of the checkpoints (`Progress.number`), in ascending order."""
        return sorted(self._manager.all_steps())

    @property
    def latest(self) -> int | None:
        """Number of the latest checkpoint, None if there is none."""
        return max(self.numbers, default=None)

    @property
    def best(self) -> int | None:
        """Number of the best checkpoint, None if none was scored."""
        return max(self._scores, key=lambda number: (self._scores[number], number), default=None)

    def is_due(self, minutes: float) -> bool:
        """Tell whether so many minutes have passed since the last save; 0: it is never due."""
        return minutes > 0 and time.monotonic() - self._last_save >= 60 * minutes

    def save(self, state: TrainState, progress: Progress, *, scored: bool) -> None:
        """Hash and write a state in the background.

        Args:
            state: NumPy arrays without the leading axis of devices, which nobody changes later.
            progress: where the run stands; its number becomes the checkpoint's.
            scored: whether `progress.pseudo_dice_average` was measured with these parameters, as
                at the end of an epoch. Only such a checkpoint can be the best.

        Raises:
            InputError: this or an earlier write failed, for instance because the disk is full.
        """
        trees = {name: flatten(tree) for name, tree in _trees(state).items()}
        progress = copy.deepcopy(progress)

        def make_record() -> Record:
            leaves = {name: describe_leaves(arrays, hashed=True) for name, arrays in trees.items()}
            return Record(progress, scored, leaves)

        items = {name: ocp.args.PyTreeSave(arrays) for name, arrays in trees.items()}
        items[_RECORD] = RecordSave(make_record)
        self._note_score(progress, scored)
        with explain_save(self.folder):
            self._manager.save(progress.number, args=ocp.args.Composite(**items))
        self._last_save = time.monotonic()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Tell Orbax which checkpoints to keep, in its order: from the oldest to the latest."""
        kept = {*[checkpoint.step for checkpoint in checkpoints][-2:], self.best}
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            InputError: a write failed, for instance because the disk is full.
        """
        with explain_save(self.folder):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Release the manager's threads, even if its last write failed."""
        self._manager.close()

    def restore_latest(self, like_state: TrainState) -> tuple[TrainState, Progress] | None:
        """Read the latest checkpoint that is whole; None if there is no checkpoint at all.

        Later ones, which are damaged, are moved to the folder `<folder>.damaged` and reported, and
        so are older ones of which not even the score can be read.

        Args:
            like_state: a state of one device with the structure, shapes and types to expect.

        Raises:
            InputError: all checkpoints are damaged, or one is of another network or optimizer.
        """
        damaged: dict[int, InputError] = {}
        for number in reversed(self.numbers):
            try:
                found = self.restore(like_state, number)
            except DamagedCheckpointError as error:
                damaged[number] = error
            else:
                damaged = self._unreadable | damaged
                set_aside(self.folder, damaged, number, found[1])
                for moved in damaged:
                    self._scores.pop(moved, None)
                if damaged:
                    self._manager.reload()
                return found
        if damaged:
            raise InputError(
                f"{damaged[max(damaged)]}, and no older one is whole; move {self.folder} away to "
                "train this run from its first step"
            )
        return None

    def restore(self, like_state: TrainState, number: int) -> tuple[TrainState, Progress]:
        """Read the state and progress of a checkpoint; see `restore_latest`.

        Raises:
            DamagedCheckpointError: it is damaged.
            InputError: it is of another network or optimizer, or cannot be read here.
        """
        record = self._read_record(number)
        params, opt_state, *average = (
            self._restore_tree(name, like, number, record)
            for name, like in _trees(like_state).items()
        )
        step = jnp.int32(record.progress.step)
        return TrainState(step, params, opt_state, *average), record.progress

    def restore_best(self, like_params: Params) -> tuple[Params, Progress]:
        """Read the parameters of the best checkpoint that is whole, and where the run stood then.

        They are `TrainState.kept`, which were scored. Better ones, which are damaged, are reported.

        Args:
            like_params: parameters with the structure, shapes and types to expect.

        Raises:
            InputError: no scored checkpoint is whole, or one is of another network.
        """
        # Most of those that were scored are gone: Orbax keeps three.
        self._scores = {n: self._scores[n] for n in self.numbers if n in self._scores}
        while (number := self.best) is not None:
            try:
                record = self._read_record(number)
                name = _AVERAGE if _AVERAGE in record.leaves else _PARAMS
                return self._restore_tree(name, like_params, number, record), record.progress
            except DamagedCheckpointError as error:
                del self._scores[number]
                _logger.warning("%s; the next best checkpoint is used", error)
        raise InputError(
            f"{self.folder}: no checkpoint of a whole epoch can be read; move the folder away to "
            "train this run from its first step"
        )

    def _note_score(self, progress: Progress, scored: bool) -> None:
        if scored and progress.pseudo_dice_average is not None:
            self._scores[progress.number] = progress.pseudo_dice_average

    def _read_record(self, number: int) -> Record:
        with explain_restore(self.folder / str(number)):
            return self._read_item(number, _RECORD, RecordRestore())

    def _restore_tree(self, name: str, like: Tree, number: int, record: Record) -> Tree:
        expected, stored = flatten(like), record.leaves.get(name, {})
        different = first_difference(describe_leaves(expected), stored)
        if different:
            raise InputError(
                f"{self.folder}/{number}: a checkpoint of another network ({different}); use the "
                "settings that it was trained with"
            )
        with explain_restore(self.folder / str(number)):
            leaves = dict(self._read_item(number, name, ocp.args.PyTreeRestore(expected)))
            if describe_leaves(leaves, hashed=True) != stored:
                raise ValueError("its content has changed on disk")
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[k] for k in expected])

    def _read_item(self, number: int, name: str, args: ocp.args.CheckpointArgs) -> Any:
        """Read an item of a checkpoint, on this host alone: the manager would wait for the others.

        They may read another one, or none.
        """
        return self._handlers[name].restore(self._manager.directory / str(number) / name, args=args)


def _trees(state: TrainState) -> dict[str, Any]:
    """Name the trees of a state that a checkpoint stores."""
    trees = {_PARAMS: state.params, _OPTIMIZER: state.opt_state}
    return trees if state.average is None else {**trees, _AVERAGE: state.average}
