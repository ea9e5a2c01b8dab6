"""Checkpoints of a run on several hosts: how Orbax coordinates them."""

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from kitsjax.hosts import barrier, host_count
from kitsjax.train.checkpoint_errors import explain_save


def options_across_hosts(folder: Path) -> dict[str, Any]:
    """Return Orbax's options for several hosts, which then wait for each other without a device.

    A program on the devices would come between the steps, in another order on each host. With these
    options Orbax does not make the folder.
    """
    if host_count() == 1:
        return {}
    with explain_save(folder):
        folder.mkdir(parents=True, exist_ok=True)
    barrier("making the folder of checkpoints")
    processes = set(range(host_count()))
    several = ocp.options.MultiprocessingOptions(primary_host=0, active_processes=processes)
    return {"create": False, "multiprocessing_options": several}
