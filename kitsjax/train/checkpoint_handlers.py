"""How Orbax writes the items of a checkpoint, so that the training loop waits for none of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from kitsjax.files import sync_file
from kitsjax.hosts import is_main
from kitsjax.train.checkpoint_record import Record, record_from_json, record_to_json


class RecordHandler(ocp.JsonCheckpointHandler):
    """Writes the record of a checkpoint, which is made in the background.

    The hashes in it take as long as writing the arrays. Orbax completes the checkpoint only when
    the record is written too.
    """

    async def async_save(
        self, directory: Any, item: Any = None, args: "RecordSave | None" = None
    ) -> list[ocp.future.Future]:
        """Begin to make and write a record, in a thread of its own."""
        assert args is not None
        write = _write_record(directory, args.make)
        return [ocp.future.CommitFutureAwaitingContractedSignals(write, name="record")]

    def restore(
        self, directory: Any, item: Any = None, args: "RecordRestore | None" = None
    ) -> Record:
        """Read a record.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged.
        """
        return record_from_json(super().restore(directory))


@ocp.args.register_with_handler(RecordHandler, for_save=True)
@dataclass
class RecordSave(ocp.args.CheckpointArgs):
    """Tells Orbax to save a record.

    Attributes:
        make: makes the record; it is called once, in the background.
    """

    make: Callable[[], Record]


@ocp.args.register_with_handler(RecordHandler, for_restore=True)
@dataclass
class RecordRestore(ocp.args.CheckpointArgs):
    """Tells Orbax to restore a record."""


def make_handlers(trees: tuple[str, ...], record: str) -> dict[str, Any]:
    """Make the handlers of a checkpoint's items, by item.

    Args:
        trees: items that are trees of NumPy arrays, which nobody changes while they are written.
        record: the item that is a `Record`.
    """
    # Orbax would copy the arrays first, while the loop waits.
    arrays = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, arrays))
    handlers = {name: ocp.PyTreeCheckpointHandler(type_handler_registry=registry) for name in trees}
    return {**handlers, record: RecordHandler()}


async def _write_record(directory: Any, make: Callable[[], Record]) -> None:
    if is_main():
        path = directory / "metadata"
        path.write_text(json.dumps(record_to_json(make())))
        # As TensorStore does with the arrays: Orbax then renames the folder.
        sync_file(path)
