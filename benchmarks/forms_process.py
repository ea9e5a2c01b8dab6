"""The measurement of the forms in a process of its own: `python -m benchmarks.forms_process`."""

import json
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp

from benchmarks.dummy_data import make_batch
from benchmarks.forms import Layer, list_layers
from benchmarks.measure import time_calls
from kitsjax.devices import start_devices
from kitsjax.model.compiling import JitByPlatform
from kitsjax.model.convolution import convolve
from kitsjax.model.decoder import DecoderInput, convolve_decoder
from kitsjax.model.unet import build_network
from kitsjax.settings import NetworkSettings, Settings
from kitsjax.train.augment import oversized_shape
from kitsjax.train.program import build_program, compile_train_step, first_state
from kitsjax.train.replication import replicate, shard

FORMS: tuple[str, ...] = tuple(
    name for name in get_args(NetworkSettings.model_fields["convolution"].annotation)
    if name != "auto"
)  # fmt: skip
"""The forms that `network.convolution` takes."""

_CALLS = 3
"""Calls of a layer or a step in a round."""


def measure_forms(settings: Settings, rounds: int) -> dict[str, Any]:
    """Measure the layers on the first device, and the step on all devices of this process."""
    batch = settings.sampling.batch_size // jax.local_device_count()
    dtype = build_network(settings.network, settings.sampling.patch_shape).dtype
    layers = []
    for layer, count in list_layers(settings, max(1, batch)).items():
        calls = {form: build_layer(layer, form, dtype) for form in FORMS}
        layers.append({"layer": str(layer), "count": count, "seconds": _take_turns(calls, rounds)})
    steps = {form: _build_step(settings, form) for form in FORMS}
    return {"layers": layers, "step": _take_turns(steps, rounds)}


def build_layer(layer: Layer, form: str, dtype: Any) -> Callable[[], Any]:
    """Build a call of a layer's forward pass and all of its gradients on random arrays."""
    keys = iter(jax.random.split(jax.random.key(0), 5))

    def sample(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape, dtype)

    kernel_inputs = layer.inputs
    x: Any = sample(*layer.shape, layer.inputs)
    if layer.kind == "decoder":
        batch, *edges = layer.shape
        skip = sample(batch, *(2 * edge for edge in edges), layer.outputs)
        up_kernel = sample(2, 2, 2, layer.inputs, layer.outputs)
        x = DecoderInput(x, up_kernel, jnp.zeros(layer.outputs, dtype), skip)
        kernel_inputs = x.channels
    kernel = sample(3, 3, 3, kernel_inputs, layer.outputs)

    def forward(x: Any, kernel: jax.Array) -> jax.Array:
        if layer.kind == "decoder":
            return convolve_decoder(x, kernel, dtype, form)  # type: ignore[arg-type]
        return convolve(x, kernel, layer.stride, form)  # type: ignore[arg-type]

    out = jax.eval_shape(forward, x, kernel)
    gradient = sample(*out.shape).astype(out.dtype)

    @JitByPlatform
    def run(x: Any, kernel: jax.Array, gradient: jax.Array) -> Any:
        result, pull_back = jax.vjp(forward, x, kernel)
        return result, pull_back(gradient)

    return lambda: jax.block_until_ready(run(x, kernel, gradient))


def _build_step(settings: Settings, form: str) -> Callable[[], Any]:
    """Build a call of the whole train step, which goes on from its own last state."""
    network = settings.network.model_copy(update={"convolution": form})
    settings = settings.model_copy(update={"network": network})
    program, sampling = build_program(settings), settings.sampling
    first = first_state(settings, program)
    _, compiled = compile_train_step(settings, program, first)
    shape = oversized_shape(sampling.patch_shape, settings.augment)
    arrays = shard(
        make_batch(shape, sampling.batch_size, settings.preprocess.dtype),
        jax.local_device_count(),
    )
    held = [replicate(first)]

    def step() -> None:
        held[0], metrics = compiled(held[0], arrays)
        jax.block_until_ready(metrics)

    return step


def _take_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time the forms in turns; the first call of each, which compiles, does not count."""
    found: dict[str, list[float]] = {form: [] for form in calls}
    for turn in range(rounds):
        for form, call in _alternate(calls.items(), turn):
            found[form] += time_calls(call, repeats=_CALLS, warm_up=2 if turn == 0 else 1)
    return found


def _alternate(items: Iterable[Any], turn: int) -> list[Any]:
    """Return the items, in the opposite order every other time."""
    return list(items)[:: -1 if turn % 2 else 1]


def main(result: str, settings: str, rounds: str) -> None:
    """Measure the forms of settings, in TOML, and write what was found to the file `result`."""
    chosen = Settings.model_validate(tomllib.loads(settings))
    start_devices(chosen.run.model_copy(update={"compilation_cache": ""}), keep_memory=True)
    Path(result).write_text(json.dumps(measure_forms(chosen, int(rounds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
