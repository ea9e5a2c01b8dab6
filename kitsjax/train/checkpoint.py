"""Checkpoints of a run: its state and progress, written by Orbax in the background."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kitsjax.errors import InputError
from kitsjax.model.arrays import Params
from kitsjax.train.step import TrainState

Tree = TypeVar("Tree")

_UNSCORED = -1.0
"""The metric of a checkpoint within an epoch. Every real pseudo-Dice is larger, so such a
checkpoint is never the best."""


@dataclass
class Progress:
    """Where a run stands, beside its parameters.

    Attributes:
        step: optimizer steps done; also the position of the training pipeline.
        epoch: epochs completed, validation included.
        pseudo_dice_average: moving average of the pseudo-Dice; None until the first epoch ends.
        losses: losses of the steps done in the current epoch.
        grad_norms: gradient norms of the same steps.
    """

    step: int = 0
    epoch: int = 0
    pseudo_dice_average: float | None = None
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of a run folder: the latest one, and the one of the best pseudo-Dice average.

    Orbax verifies that files are complete but not what is in them. So the hash, shape and type of
    each leaf are stored beside the arrays and compared before a checkpoint is used.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        # Orbax logs a failure in its background threads and raises it again here, where it becomes
        # one line. So its log is silenced.
        for name in ("absl", "asyncio", "concurrent.futures"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(get_metric_fn=_pseudo_dice_average, n=1, reverse=False),
            ]
        )
        # With the policy alone the metrics would be lost at a restart; best_fn has them stored.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, best_fn=_pseudo_dice_average, best_mode="max"
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """Step of the latest checkpoint, None if there is none."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """Step of the best checkpoint, None if there is none."""
        return self._manager.best_step()

    def save(self, state: TrainState, progress: Progress, *, scored: bool) -> None:
        """Copy a state to the host and write it in the background.

        Args:
            state: without the leading axis of devices.
            progress: where the run stands; `progress.step` becomes the checkpoint's number.
            scored: whether `progress.pseudo_dice_average` was measured with these parameters, as
                at the end of an epoch. Only such a checkpoint can be the best.

        Raises:
            InputError: this or an earlier write failed, for instance because the disk is full.
        """
        trees = {"params": _flatten(state.params), "optimizer": _flatten(state.opt_state)}
        record = {
            "progress": asdict(progress),
            "leaves": {name: _describe(leaves, hashed=True) for name, leaves in trees.items()},
        }
        dice = progress.pseudo_dice_average if scored else None
        items = {name: ocp.args.StandardSave(leaves) for name, leaves in trees.items()}
        with self._explain_save():
            self._manager.save(
                progress.step,
                args=ocp.args.Composite(**items, record=ocp.args.JsonSave(record)),
                metrics={"dice": _UNSCORED if dice is None else dice},
            )

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            InputError: a write failed, for instance because the disk is full.
        """
        with self._explain_save():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Release the manager's threads, even if its last write failed."""
        self._manager.close()

    def restore(self, like_state: TrainState, step: int) -> tuple[TrainState, Progress]:
        """Read the state and progress of a step.

        Args:
            like_state: a state of one device with the structure, shapes and types to expect.
            step: the checkpoint's number.

        Raises:
            InputError: the checkpoint is damaged, or of another network or optimizer.
        """
        record = self._read_record(step)
        params = self._restore_tree("params", like_state.params, step, record)
        opt_state = self._restore_tree("optimizer", like_state.opt_state, step, record)
        progress = Progress(**record["progress"])
        return TrainState(jnp.int32(progress.step), params, opt_state), progress

    def restore_params(self, like_params: Params, step: int) -> Params:
        """Read only the parameters of a step.

        Args:
            like_params: parameters with the structure, shapes and types to expect.
            step: the checkpoint's number.

        Raises:
            InputError: the checkpoint is damaged, or of another network.
        """
        return self._restore_tree("params", like_params, step, self._read_record(step))

    def _read_record(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        with self._explain_restore(step):
            return self._manager.restore(step, args=args).record

    def _restore_tree(self, name: str, like: Tree, step: int, record: Mapping[str, Any]) -> Tree:
        expected, stored = _flatten(like), record["leaves"][name]
        different = _first_difference(_describe(expected), stored)
        if different:
            raise InputError(
                f"{self.folder}/{step}: a checkpoint of another network ({different}); use the "
                "settings that it was trained with"
            )
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(expected)})
        with self._explain_restore(step):
            leaves = dict(self._manager.restore(step, args=args)[name])
        if _describe(leaves, hashed=True) != stored:
            raise InputError(
                f"{self.folder}/{step}: the checkpoint's content has changed on disk; remove its "
                "folder to use another"
            )
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[k] for k in expected])

    def _explain_save(self) -> AbstractContextManager[None]:
        return _explain(f"{self.folder}: cannot save a checkpoint", "free the disk, then --resume")

    def _explain_restore(self, step: int) -> AbstractContextManager[None]:
        what = f"{self.folder}/{step}: the checkpoint is damaged"
        return _explain(what, "remove its folder to use another")


@contextmanager
def _explain(what: str, advice: str) -> Iterator[None]:
    """Turn whatever Orbax and TensorStore raise about files into one line."""
    try:
        yield
    except Exception as error:
        text = str(error)
        full = "RESOURCE_EXHAUSTED" in text or "No space left" in text
        reason = "the disk is full" if full else text.partition("\n")[0][:200]
        raise InputError(f"{what} ({reason or type(error).__name__}); {advice}") from None


def _pseudo_dice_average(metrics: Mapping[str, float]) -> float:
    return metrics["dice"]


def _flatten(tree: Any) -> dict[str, np.ndarray]:
    """Copy the leaves of a tree to the host, under dotted names, in the tree's order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return dict(zip(names, jax.device_get([leaf for _, leaf in leaves]), strict=True))


def _describe(leaves: Mapping[str, np.ndarray], *, hashed: bool = False) -> dict[str, list[Any]]:
    """List the shape and type of each leaf, and its hash if asked, as JSON stores them."""

    def describe(leaf: np.ndarray) -> list[Any]:
        digest = [hashlib.blake2b(leaf.tobytes(), digest_size=16).hexdigest()] if hashed else []
        return [list(leaf.shape), str(leaf.dtype), *digest]

    return {name: describe(leaf) for name, leaf in leaves.items()}


def _first_difference(expected: Mapping[str, list], stored: Mapping[str, list]) -> str:
    """Describe the first difference in names or shapes; empty if there is none."""
    for name in [*expected, *stored]:
        ours, theirs = expected.get(name), stored.get(name)
        if ours is None or theirs is None:
            return f"{name} is only in the {'checkpoint' if ours is None else 'settings'}"
        if ours[0] != theirs[0]:
            return f"{name} has shape {tuple(theirs[0])}, the settings ask for {tuple(ours[0])}"
    return ""
