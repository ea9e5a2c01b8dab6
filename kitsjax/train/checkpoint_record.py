"""What a checkpoint says of itself: where the run stood, and each array's shape, type and hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

Leaves = Mapping[str, list[Any]]
"""[shape, type] of each array by name, or [shape, type, hash], as JSON stores them."""


@dataclass
class Progress:
    """Where a run stands, beside its parameters.

    Attributes:
        step: optimizer steps done; also the position of the training pipeline.
        epoch: epochs completed, validation included.
        pseudo_dice_average: moving average of the pseudo-Dice; None until the first epoch ends.
        losses: losses of the steps done in the current epoch.
        grad_norms: gradient norms of the same steps.
        productive_seconds: see `TimeAccount`; no part of what makes two runs equal.
    """

    step: int = 0
    epoch: int = 0
    pseudo_dice_average: float | None = None
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    productive_seconds: float = field(default=0.0, compare=False)

    @property
    def number(self) -> int:
        """The number of a checkpoint made here. It grows with every step and every epoch's end.

        So the end of an epoch's steps and the end of its validation have checkpoints of their own.
        """
        return self.step + self.epoch


@dataclass(frozen=True)
class Record:
    """The record that lies in a checkpoint beside its arrays.

    Attributes:
        progress: where the run stood.
        scored: whether `progress.pseudo_dice_average` was measured with these parameters.
        leaves: the arrays of the trees "params", "optimizer" and, if kept, "average", with hashes.
    """

    progress: Progress
    scored: bool
    leaves: Mapping[str, Leaves]


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record as JSON stores it, with a checksum."""
    content = {
        "progress": asdict(record.progress), "scored": record.scored, "leaves": record.leaves
    }  # fmt: skip
    return {**content, "checksum": _checksum(content)}


def record_from_json(stored: Mapping[str, Any]) -> Record:
    """Read a record that `record_to_json` returned, or that an older version stored.

    Raises:
        ValueError: it is damaged.
    """
    content = {name: value for name, value in stored.items() if name != "checksum"}
    if content.keys() == {"progress", "leaves"}:
        # Older versions stored no more. The losses of an epoch are dropped when it is scored.
        content["scored"] = not content["progress"]["losses"]
    elif stored.get("checksum") != _checksum(content):
        raise ValueError("its record has changed on disk")
    return Record(Progress(**content["progress"]), content["scored"], content["leaves"])


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Copy the leaves of a tree to the host, under dotted names, in the tree's order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return dict(zip(names, jax.device_get([leaf for _, leaf in leaves]), strict=True))


def describe_leaves(
    leaves: Mapping[str, np.ndarray], *, hashed: bool = False
) -> dict[str, list[Any]]:
    """List the shape and type of each leaf, and its hash if asked, as JSON stores them."""

    def describe(leaf: np.ndarray) -> list[Any]:
        return [list(leaf.shape), str(leaf.dtype), *([_hash_array(leaf)] if hashed else [])]

    return {name: describe(leaf) for name, leaf in leaves.items()}


def first_difference(expected: Leaves, stored: Leaves) -> str:
    """Describe the first difference in names, shapes or types; empty if there is none."""
    for name in [*expected, *stored]:
        ours, theirs = expected.get(name), stored.get(name)
        if ours is None or theirs is None:
            return f"{name} is only in the {'checkpoint' if ours is None else 'settings'}"
        if ours[0] != theirs[0]:
            return f"{name} has shape {tuple(theirs[0])}, the settings ask for {tuple(ours[0])}"
        if ours[1] != theirs[1]:
            return f"{name} has type {theirs[1]}, the settings ask for {ours[1]}"
    return ""


def _hash_array(array: np.ndarray) -> str:
    """Hash the bytes of an array, in C order; Python is free to do other things meanwhile."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(data.data, digest_size=16).hexdigest()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
