"""Forecast before renting: does a run fit into the devices' memory, and what bounds its speed?

The train step and the prediction are compiled for the devices, which need not be here, since
XLA's compilers work from the description of a TPU or GPU. What they would cost is then analyzed.
"""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax

from kitsjax.config import choose_scheme
from kitsjax.data.open_dataset import open_dataset, resolve_scheme
from kitsjax.devices import start_devices
from kitsjax.errors import InputError
from kitsjax.failures import catch
from kitsjax.infer.slab_sums import sums_shape
from kitsjax.infer.sliding_window import bucket_shape, window_positions, windows_at_a_time
from kitsjax.infer.trained_model import Ensemble, Model
from kitsjax.infer.window_program import lower_windows
from kitsjax.make_scheme import describe_scheme
from kitsjax.plan.chips import CHIPS, Chip
from kitsjax.plan.cost import Cost, count_bytes, count_parameters, measure_cost
from kitsjax.plan.operations import count_step_operations, count_window_operations
from kitsjax.plan.targets import target_devices
from kitsjax.settings import Settings
from kitsjax.train.program import Program, build_program, first_state, lower_train_step
from kitsjax.train.state import TrainState
from kitsjax.types import Shape

_logger = logging.getLogger(__name__)

CT_SHAPE = (256, 256, 256)
"""Shape of the preprocessed CT that is predicted, by default: 51 cm along each axis at 1.99 mm."""

GPU_SHARE = 0.75
"""Share of a GPU's memory that JAX takes at its start, unless one of `SHARE_VARIABLES` says another
(JAX's documentation, "GPU memory allocation")."""

SHARE_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""The variable of the environment that JAX reads, and its older name."""


@dataclass(frozen=True)
class Forecast:
    """The cost of a run's train step and prediction on a number of equal devices.

    Attributes:
        device_kind: the name that JAX gives each device.
        device_count: number of devices that train together.
        chip: published figures of the device; None where `CHIPS` does not list it.
        device_memory_bytes: what JAX has of the memory of one device; nan where nothing tells.
        parameter_count: scalars in the network.
        train: cost of one train step.
        predict: cost of predicting one batch of windows.
        ct_shape: shape of the preprocessed CT that is predicted.
        batch_windows: number of windows in a batch.
        window_batches: number of batches of windows that cover the CT.
    """

    device_kind: str
    device_count: int
    chip: Chip | None
    device_memory_bytes: float
    parameter_count: int
    train: Cost
    predict: Cost
    ct_shape: Shape
    batch_windows: int
    window_batches: int

    @property
    def fits(self) -> bool:
        """Both the train step and the prediction fit into the memory of each device."""
        return all(self.holds(cost) for cost in (self.train, self.predict))

    def holds(self, cost: Cost) -> bool:
        """Check if a function of this cost fits into the memory of a device.

        If the size of the memory is unknown, it does unless the compiler refused it.
        """
        return not cost.refusal and not cost.memory_bytes > self.device_memory_bytes


def forecast(settings: Settings, target: str | None = None, ct_shape: Shape = CT_SHAPE) -> Forecast:
    """Compile the train step and the prediction; this takes minutes for the presets.

    Args:
        settings: the run.
        target: devices that need not be here, see `target_devices`; None: this machine's devices.
        ct_shape: shape of the preprocessed CT that is predicted, voxels.

    Raises:
        InputError: the target is unknown or its compiler is not installed, the batch cannot be
            divided over the devices, [labels] and the data set, if it is here, name other labels,
            or a variable of the environment is no share of the memory.
    """
    settings = _complete_labels(settings)
    devices = _find_devices(settings, target)
    program = build_program(settings, devices)
    state = jax.eval_shape(partial(first_state, settings, program))
    # The best number on the target's platform, not on the one that compiles.
    batch_windows = windows_at_a_time(settings.predict, devices[0].platform)
    model = Model(
        state.params,
        program.network,
        settings.sampling.patch_shape,
        settings.preprocess,
        settings.predict.model_copy(update={"batch_size": batch_windows}),
        choose_scheme(settings),
    )
    kind = devices[0].device_kind
    chip = CHIPS.get(kind)
    return Forecast(
        device_kind=kind,
        device_count=len(devices),
        chip=chip,
        device_memory_bytes=_find_memory(devices[0], chip, is_here=target is None),
        parameter_count=count_parameters(state.params),
        train=_measure_training(settings, program, state, devices),
        predict=_measure_prediction(model, ct_shape, devices[0]),
        ct_shape=ct_shape,
        batch_windows=batch_windows,
        window_batches=math.ceil(_count_windows(model, ct_shape) / batch_windows),
    )


def _complete_labels(settings: Settings) -> Settings:
    """Complete [labels] by the data set's own, if it is here, for the network's outputs."""
    data = settings.data
    # A phantom has KiTS's labels, and its folder may be there before it.
    if data.make_phantom or not os.path.lexists(data.root):
        return settings
    found = catch(open_dataset, data.root, data.layout, complete=False)
    if isinstance(found, InputError):
        _logger.warning("%s; the labels of the settings are taken", found)
        return settings
    labels = describe_scheme(resolve_scheme(settings.labels, found))
    return settings.model_copy(update={"labels": labels})


def _find_devices(settings: Settings, target: str | None) -> list[jax.Device]:
    if target is not None:
        return target_devices(target)
    # Nothing is run, so this process need not join the others of the run.
    start_devices(settings.run.model_copy(update={"coordinator": ""}))
    return jax.local_devices()


def _measure_training(
    settings: Settings, program: Program, state: TrainState, devices: list[jax.Device]
) -> Cost:
    """Measure one train step; its loop goes over the micro-batches."""
    lowered = lower_train_step(settings, program, state, devices)
    parameters, momentum = count_bytes(state.params), count_bytes(state.opt_state)
    average = count_bytes(state.average)
    # After the loop the update reads the gradient, and reads and writes all of the state.
    update_bytes = 3 * parameters + 2 * momentum + 2 * average
    named = {"parameters": parameters, "momentum": momentum}
    if average:
        named["average"] = average
    iterations, platform = settings.train.accumulation_steps, devices[0].platform
    cost = measure_cost(lowered, platform, named, iterations, update_bytes)
    share = settings.sampling.batch_size // len(devices)
    return _complete(cost, lambda: count_step_operations(settings, share))


def _measure_prediction(model: Model, ct_shape: Shape, device: jax.Device) -> Cost:
    """Measure the prediction of one batch of windows; its loop goes over the mirrorings."""
    stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), model.params)
    ensemble = Ensemble(model, stacked, (model.preprocess,), (0,))
    lowered = lower_windows(ensemble, model.predict, device)
    mirrorings = 8 if model.predict.mirror else 1
    named = {"parameters": count_bytes(model.params)}
    cost = measure_cost(lowered, device.platform, named, mirrorings)
    cost = _complete(cost, lambda: count_window_operations(ensemble))
    # Beside the batch itself the device holds the sums over the windows of a CT.
    voxels = math.prod(sums_shape(ct_shape, model.patch_shape, model.predict.bucket))
    sums = 4 * len(model.scheme.names) * voxels
    return replace(cost, memory={**cost.memory, "sums": sums} if cost.memory else {})


def _complete(cost: Cost, count: Callable[[], float]) -> Cost:
    """Count the operations where XLA has not, as for a GPU or a CPU."""
    if cost.refusal or not math.isnan(cost.flops):
        return cost
    return replace(cost, flops=count())


def _count_windows(model: Model, ct_shape: Shape) -> int:
    # A CT that is smaller than the patch is padded to the patch.
    valid_shape = bucket_shape(ct_shape, model.patch_shape, 1)
    return len(window_positions(valid_shape, model.patch_shape, model.predict.step_size))


def _find_memory(device: jax.Device, chip: Chip | None, *, is_here: bool) -> float:
    """Find the memory that JAX has of a device, in bytes; nan where nothing tells."""
    known = _device_memory(device) if is_here else math.nan
    if chip is None or not math.isnan(known):
        return known
    return chip.memory_bytes * (_gpu_share() if chip.gpu else 1)


def _gpu_share() -> float:
    """Return the share of a GPU's memory that JAX takes in this environment.

    It is above 1 where arrays may spill over to the memory of the host.
    """
    for variable in SHARE_VARIABLES:
        if text := os.environ.get(variable):
            try:
                share = float(text)
            except ValueError:
                share = 0.0
            if not 0 < share < math.inf:
                raise InputError(f"{variable}={text}: give a share of the GPU's memory, as in 0.95")
            return share
    return GPU_SHARE


def _device_memory(device: jax.Device) -> float:
    """Find the memory of a device that is here, in bytes; nan where the system does not tell."""
    if device.platform == "cpu":
        # The devices that the CPU is split into share its memory.
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return float(total / jax.local_device_count())
    stats = device.memory_stats() or {}
    return float(stats.get("bytes_limit", math.nan))
