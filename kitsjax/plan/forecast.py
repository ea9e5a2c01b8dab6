"""Before renting: whether a run fits a device, and how fast it could be there at best.

The train step and the predictor are compiled for the device, which need not be there: libtpu's
compiler takes a TPU's description. XLA then tells their memory, operations and bytes.
"""

import math
import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import jax

from kitsjax.devices import start_devices
from kitsjax.errors import InputError, first_line
from kitsjax.infer.predict import lower_prediction
from kitsjax.infer.sliding_window import bucket_shape, window_positions, windows_at_a_time
from kitsjax.infer.trained_model import Ensemble, Model
from kitsjax.labels import CLASSES
from kitsjax.plan.chips import CHIPS, GIB, Chip
from kitsjax.plan.run_plan import count_parameters, count_work
from kitsjax.settings import Settings
from kitsjax.train.program import build_program, lower_train_step
from kitsjax.train.step import init_state

CT_SHAPE = (256, 256, 256)
"""Working voxels of the CT that prediction is forecast for: half a meter a side at 1.99 mm."""

# What libtpu asks of its surroundings where there is no TPU.
_COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Lowered(Protocol):
    """A program before its compilation, as jax.jit(f).lower(...) returns it."""

    def compile(self) -> Any: ...


@dataclass(frozen=True)
class Cost:
    """What XLA says of a compiled program, for one device.

    Attributes:
        flops, moved_bytes: of one step, or of predicting so many windows as are computed at a time.
        parts: bytes by what they hold.
        refused: the compiler's own words if the device's memory does not hold it; "" if it does.
    """

    flops: float = math.nan
    moved_bytes: float = math.nan
    parts: dict[str, float] = field(default_factory=dict)
    refused: str = ""

    @property
    def total_bytes(self) -> float:
        return sum(self.parts.values())

    def roofline_seconds(self, chip: Chip) -> float:
        """No execution is faster: operations or bytes, whichever takes the chip longer."""
        return max(self.flops / chip.flops, self.moved_bytes / chip.bandwidth)


@dataclass(frozen=True)
class Forecast:
    """The settings' programs on so many of a device.

    Attributes:
        chip: None where the device is not in `CHIPS`.
        memory_bytes: of one device; nan where the system does not tell.
        windows: computed at a time, of which `predict` has the cost.
        rounds: of so many windows that a CT of `CT_SHAPE` takes.
    """

    kind: str
    devices: int
    chip: Chip | None
    memory_bytes: float
    parameters: int
    train: Cost
    predict: Cost
    windows: int
    rounds: int

    @property
    def fits(self) -> bool:
        """Both programs, in the memory of each device."""
        return all(self.holds(cost) for cost in (self.train, self.predict))

    def holds(self, cost: Cost) -> bool:
        """Whether a program fits; one of unknown room does unless the compiler refused it."""
        return not cost.refused and not cost.total_bytes > self.memory_bytes


def forecast(settings: Settings, target: str | None = None) -> Forecast:
    """Compile the settings' train step and predictor; takes minutes for the presets.

    Args:
        target: a TPU slice by generation and chips ("v5e:2x2", "v4:2x2x1", "v5p:2x2x1",
            "v6e:2x2"), for which libtpu must be installed; None: this machine's devices.

    Raises:
        InputError: an unknown target, no libtpu, or the batch does not fit the devices' number.
    """
    if target is not None:
        devices = tpu_devices(target)
    else:
        # Nothing is run, so no other process is waited for.
        start_devices(settings.run.model_copy(update={"coordinator": ""}))
        devices = jax.local_devices()
    program = build_program(settings, devices)
    state = jax.eval_shape(partial(init_state, program.network, program.optimizer, 0))
    step = lower_train_step(settings, program, state, devices)
    parameters, momentum = _bytes(state.params), _bytes(state.opt_state)
    # An update reads the gradient, and reads and writes parameters and momentum.
    update = 3 * parameters + 2 * momentum
    train = _measure(
        step,
        {"parameters": parameters, "momentum": momentum},
        settings.train.accumulation_steps,
        update,
    )
    sampling, preprocess = settings.sampling, settings.preprocess
    model = Model(state.params, program.network, sampling.patch_shape, preprocess, settings.predict)
    stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), state.params)
    # What is best there, not on the platform that compiles.
    at_a_time = windows_at_a_time(settings.predict, devices[0].platform)
    predict_settings = settings.predict.model_copy(update={"batch_size": at_a_time})
    lowered = lower_prediction(Ensemble(model, stacked), CT_SHAPE, predict_settings, devices[0])
    mirrorings = 8 if settings.predict.mirror else 1
    # Set to zero once a CT, next to nothing beside all its windows.
    sums = len(CLASSES) * math.prod(CT_SHAPE) * 4
    predict = _measure(lowered, {"parameters": parameters}, mirrorings, sums)
    predict = replace(predict, moved_bytes=max(predict.moved_bytes - sums, 0.0))
    kind = devices[0].device_kind
    chip = CHIPS.get(kind)
    memory = chip.memory_bytes if chip else _memory_bytes(devices[0])
    extent = bucket_shape(CT_SHAPE, sampling.patch_shape, 1)
    positions = window_positions(extent, sampling.patch_shape, settings.predict.step_size)
    batches = math.ceil(len(positions) / at_a_time)
    count = count_parameters(state.params)
    return Forecast(kind, len(devices), chip, memory, count, train, predict, at_a_time, batches)


def tpu_devices(target: str) -> list[Any]:
    """Devices to compile for, of a TPU slice that need not exist here; see `forecast`."""
    generation = target.partition(":")[0]
    if not re.fullmatch(r"v(4|5e|5p|6e):[1-9]\d*x[1-9]\d*(x[1-9]\d*)?", target):
        raise InputError(
            f"--target {target or repr(target)}: not a TPU slice; write its chips as v5e:2x2, "
            "v6e:2x2, v4:2x2x1 or v5p:2x2x1, a single one as v5e:1x1"
        )
    if find_spec("libtpu") is None:
        raise InputError("--target needs libtpu's compiler: python -m pip install 'libtpu>=0.0.42'")
    jax.config.update("jax_enable_x64", False)
    # The CPU is all there is to run on, and nothing is run.
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(_COMPILE_ONLY)
    from jax.experimental import topologies

    # A v4 chip's two cores are one device, as on a TPU VM.
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}
    try:
        topology = topologies.get_topology_desc(target, "tpu", **options)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--target {target}: libtpu knows no such slice ({first_line(error)})"
        ) from error
    return list(topology.devices)


def _measure(lowered: Lowered, known: dict[str, float], times: int, outside_bytes: float) -> Cost:
    """Compile and ask XLA.

    Args:
        known: bytes of the arguments that have names of their own.
        times, outside_bytes: see `count_work`.
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error):
            raise
        return _refused(str(error))
    memory = compiled.memory_analysis()
    arguments = memory.argument_size_in_bytes
    parts = {
        **known,
        "input": max(0.0, arguments - sum(known.values())),
        # What the donated state does not make room for.
        "output": max(0.0, memory.output_size_in_bytes - memory.alias_size_in_bytes),
        "activations and temporary": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
    }
    return Cost(*count_work(compiled, times, outside_bytes), parts)


def _refused(message: str) -> Cost:
    """The cost of a program that the compiler found too large; its size where it says so."""
    used = re.search(r"Used ([\d.]+)([GM]) of", message)
    parts = {}
    if used:
        parts["all"] = float(used[1]) * {"G": GIB, "M": 2**20}[used[2]]
    lines = [line for line in message.splitlines() if "Used" in line] or message.splitlines()
    return Cost(parts=parts, refused=lines[0].strip())


def _bytes(tree: Any) -> float:
    return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)))


def _memory_bytes(device: Any) -> float:
    """Of a device that is here and not in the table."""
    if device.platform == "cpu":
        # Which the devices that a CPU is divided into share.
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return float(whole / jax.local_device_count())
    stats = device.memory_stats() or {}
    return float(stats.get("bytes_limit", math.nan))
