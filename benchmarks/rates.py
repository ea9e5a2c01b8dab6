"""What a device can do at best, measured: the two rates that every floor rests on."""

from typing import NamedTuple

from benchmarks.part import time_calls


class Rates(NamedTuple):
    """Of all local devices together.

    Attributes:
        flops: operations a second of a large matrix product, of bfloat16 on an accelerator and of
            float32 on a CPU.
        bandwidth: bytes a second, read and written, of a large copy.
    """

    flops: float
    bandwidth: float


def measure_rates() -> Rates:
    """Measure them, on every local device at once, as a step runs."""
    import jax
    import jax.numpy as jnp

    on_cpu = jax.default_backend() == "cpu"
    edge, dtype = (2048, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
    devices = jax.local_device_count()
    # Not zeros, of which some devices multiply more a second than of real numbers.
    keys = jax.random.split(jax.random.key(0), devices)
    operand = jax.pmap(lambda key: jax.random.normal(key, (edge, edge), dtype))(keys)
    product = jax.pmap(lambda a: a @ a)
    least = min(time_calls(lambda: jax.block_until_ready(product(operand)), repeats=8, warm_up=2))
    flops = devices * 2 * edge**3 / least

    size = 2**26 if on_cpu else 2**29
    array = jax.pmap(lambda key: jax.random.normal(key, (size,), jnp.float32))(keys)
    copy = jax.pmap(lambda a: a + 1)
    least = min(time_calls(lambda: jax.block_until_ready(copy(array)), repeats=8, warm_up=2))
    return Rates(flops, devices * 2 * size * array.dtype.itemsize / least)
