"""The two rates of a device that a roofline bound rests on, measured."""

from typing import NamedTuple

from benchmarks.measure import time_calls


class Rates(NamedTuple):
    """Rates of all local devices together.

    Attributes:
        flops: operations per second of a large matrix product, in bfloat16 on an accelerator and
            in float32 on a CPU.
        bandwidth: bytes per second that a large copy reads and writes.
    """

    flops: float
    bandwidth: float


def measure_rates() -> Rates:
    """Measure the rates on all local devices at once, as a train step uses them."""
    import jax
    import jax.numpy as jnp

    on_cpu = jax.default_backend() == "cpu"
    edge, dtype = (2048, jnp.float32) if on_cpu else (8192, jnp.bfloat16)
    devices = jax.local_device_count()
    # Random numbers, since some devices multiply zeros faster.
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
