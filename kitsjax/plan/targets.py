"""The devices of a TPU slice that need not exist here, as targets for the compiler of libtpu."""

import os
import re
from importlib.util import find_spec

import jax

from kitsjax.errors import InputError, first_line

_COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""The environment variables that libtpu needs on a machine without a TPU."""


def tpu_devices(target: str) -> list[jax.Device]:
    """Describe the devices of a TPU slice, to compile for and not to run on.

    Only the CPU can be used for running in this process afterwards.

    Args:
        target: generation and chips of the slice: "v5e:2x2", "v6e:2x2", "v4:2x2x1" or "v5p:2x2x1".

    Raises:
        InputError: libtpu is not installed or does not know the slice.
    """
    generation = target.partition(":")[0]
    if not re.fullmatch(r"v(4|5e|5p|6e):[1-9]\d*x[1-9]\d*(x[1-9]\d*)?", target):
        raise InputError(
            f"--target {target or repr(target)}: not a TPU slice; write its chips as v5e:2x2, "
            "v6e:2x2, v4:2x2x1 or v5p:2x2x1, a single one as v5e:1x1"
        )
    if find_spec("libtpu") is None:
        raise InputError(
            f"--target {target}: needs libtpu's compiler, which is not installed; run "
            "python -m pip install 'libtpu>=0.0.42'"
        )
    jax.config.update("jax_enable_x64", False)
    # JAX must not look for a TPU here; compiling needs none.
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(_COMPILE_ONLY)
    from jax.experimental import topologies

    # The two cores of a v4 chip are one device, as they are on a TPU machine.
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}
    try:
        topology = topologies.get_topology_desc(target, "tpu", **options)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--target {target}: libtpu knows no such slice ({first_line(error)}); give "
            "another one, such as v5e:2x2"
        ) from error
    return list(topology.devices)
