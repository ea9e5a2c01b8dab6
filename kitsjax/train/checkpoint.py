"""Orbax checkpoints: state and position, asynchronous, latest and best, hashed leaf by leaf."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kitsjax.errors import InputError

Tree = TypeVar("Tree")

_UNSCORED = -1.0
"""Composite Dice of a checkpoint within an epoch: below any real one, so never the best."""


@dataclass
class Progress:
    """Where a run stands, beside its parameters.

    Attributes:
        step: optimizer steps done; also the position of the training pipeline.
        epoch: epochs completed, validation included.
        pseudo_dice_average: moving average of the pseudo-Dice; None before the first epoch's end.
        losses, grad_norms: of the steps done in the epoch under way.
    """

    step: int = 0
    epoch: int = 0
    pseudo_dice_average: float | None = None
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of a run folder: the latest, and the best by the Dice's moving average.

    Orbax verifies that files are whole but not what is in them, so each leaf's hash, shape and
    type stand beside the arrays and are compared before a checkpoint is used.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        # What fails in a background thread is logged there, traceback and all, and raised here
        # again, where it becomes one line.
        for name in ("absl", "asyncio", "concurrent.futures"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(get_metric_fn=_dice, n=1, reverse=False),
            ]
        )
        # The policy alone forgets metrics on a restart; best_fn makes them be stored.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, best_fn=_dice, best_mode="max"
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

    def save(self, params: Any, opt_state: Any, progress: Progress, *, scored: bool) -> None:
        """Copy to the host, then write in the background.

        Args:
            scored: at an epoch's end, where `progress.pseudo_dice_average` belongs to these parameters.

        Raises:
            InputError: this or an earlier write failed, the disk being full for instance.
        """
        trees = {"params": _flatten(params), "optimizer": _flatten(opt_state)}
        record = {
            "progress": asdict(progress),
            "leaves": {name: _describe(leaves, hashed=True) for name, leaves in trees.items()},
        }
        dice = progress.pseudo_dice_average if scored else None
        items = {name: ocp.args.StandardSave(leaves) for name, leaves in trees.items()}
        with self._explained("cannot save a checkpoint; free the disk, then --resume"):
            self._manager.save(
                progress.step,
                args=ocp.args.Composite(**items, record=ocp.args.JsonSave(record)),
                metrics={"dice": _UNSCORED if dice is None else dice},
            )

    def wait(self) -> None:
        """Until everything is written; raises as `save` does."""
        with self._explained("cannot save a checkpoint; free the disk, then --resume"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Release the manager's threads, whether or not its last write went well."""
        self._manager.close()

    def restore(self, params: Tree, opt_state: Tree, step: int) -> tuple[Tree, Tree, Progress]:
        """Parameters, optimizer state and progress of a step, in the form of those given.

        Raises:
            InputError: damaged, or of another network or optimizer.
        """
        record = self._record(step)
        restored = [
            self._restore(name, like, step, record)
            for name, like in (("params", params), ("optimizer", opt_state))
        ]
        return restored[0], restored[1], Progress(**record["progress"])

    def restore_params(self, params: Tree, step: int) -> Tree:
        """The parameters of a step alone; raises as `restore` does."""
        return self._restore("params", params, step, self._record(step))

    def _record(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        with self._explained(f"checkpoint {step} is damaged; remove its folder to use another"):
            return self._manager.restore(step, args=args).record

    def _restore(self, name: str, like: Tree, step: int, record: Mapping[str, Any]) -> Tree:
        expected, stored = _flatten(like), record["leaves"][name]
        different = _first_difference(_describe(expected), stored)
        if different:
            raise InputError(
                f"{self.folder}/{step}: a checkpoint of another network ({different}); use the "
                "settings that it was trained with"
            )
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(expected)})
        with self._explained(f"checkpoint {step} is damaged; remove its folder to use another"):
            leaves = dict(self._manager.restore(step, args=args)[name])
        if _describe(leaves, hashed=True) != stored:
            raise InputError(
                f"{self.folder}/{step}: the checkpoint's content has changed on disk; remove its "
                "folder to use another"
            )
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[k] for k in expected])

    def _explained(self, advice: str) -> "_Explained":
        return _Explained(f"{self.folder}: {advice}")


class _Explained:
    """Turns whatever Orbax and TensorStore raise about files into one line."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            text = str(error)
            full = "RESOURCE_EXHAUSTED" in text or "No space left" in text
            reason = "the disk is full" if full else text.partition("\n")[0][:200]
            raise InputError(f"{self.what} ({reason or type(error).__name__})") from None


def _dice(metrics: Mapping[str, float]) -> float:
    return metrics["dice"]


def _flatten(tree: Any) -> dict[str, np.ndarray]:
    """Leaves on the host under dotted names, in the order of the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return dict(zip(names, jax.device_get([leaf for _, leaf in leaves]), strict=True))


def _describe(leaves: Mapping[str, np.ndarray], *, hashed: bool = False) -> dict[str, list[Any]]:
    """Shape and type of each leaf, and its hash on demand, as JSON keeps them."""

    def describe(leaf: np.ndarray) -> list[Any]:
        digest = [hashlib.blake2b(leaf.tobytes(), digest_size=16).hexdigest()] if hashed else []
        return [list(leaf.shape), str(leaf.dtype), *digest]

    return {name: describe(leaf) for name, leaf in leaves.items()}


def _first_difference(expected: Mapping[str, list], stored: Mapping[str, list]) -> str:
    """What differs first between two descriptions, hashes aside; empty if nothing does."""
    for name in [*expected, *stored]:
        ours, theirs = expected.get(name), stored.get(name)
        if ours is None or theirs is None:
            return f"{name} is only in the {'checkpoint' if ours is None else 'settings'}"
        if ours[0] != theirs[0]:
            return f"{name} has shape {tuple(theirs[0])}, the settings ask for {tuple(ours[0])}"
    return ""
