"""The cost of a compiled function, as XLA analyzes it: operations, bytes moved and memory."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from kitsjax.model.compiling import compile_program, is_out_of_memory
from kitsjax.plan.chips import GIB, Chip
from kitsjax.plan.program_bytes import count_program_bytes


@dataclass(frozen=True)
class Cost:
    """What one execution of a compiled function costs one device.

    Attributes:
        flops: arithmetic operations; nan where XLA does not count them.
        bytes_moved: bytes read from and written to the device's memory; nan likewise.
        memory: bytes that the execution occupies, by what they hold.
        refusal: the compiler's message if the function does not fit into the memory, else "".
    """

    flops: float = math.nan
    bytes_moved: float = math.nan
    memory: dict[str, float] = field(default_factory=dict)
    refusal: str = ""

    @property
    def memory_bytes(self) -> float:
        """Bytes that the execution occupies in total."""
        return sum(self.memory.values())

    def roofline_seconds(self, chip: Chip) -> float:
        """Compute the roofline bound: no execution on this chip takes less time.

        The bound is the time of the arithmetic at the chip's full rate, or that of the bytes moved
        at its full bandwidth, whichever is longer.
        """
        return max(self.flops / chip.flops_per_second, self.bytes_moved / chip.bytes_per_second)


def measure_cost(
    lowered: jax.stages.Lowered,
    platform: str,
    named_arguments: dict[str, float],
    iterations: int = 1,
    outside_bytes: float = 0,
) -> Cost:
    """Compile a function and read its cost from XLA's analysis; nothing is executed.

    Args:
        lowered: the function, from `jax.jit(f).lower(...)`.
        platform: "cpu", "gpu" or "tpu", which it was lowered for.
        named_arguments: bytes of the arguments that are listed in `Cost.memory` under names of
            their own; all others are listed as "input".
        iterations: see `count_work`.
        outside_bytes: see `count_work`.
    """
    try:
        compiled = compile_program(lowered, platform)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return _parse_refusal(str(error))
    analysis: Any = compiled.memory_analysis()
    other_arguments = analysis.argument_size_in_bytes - sum(named_arguments.values())
    memory = {
        **named_arguments,
        "input": max(0.0, other_arguments),
        # Outputs that reuse the memory of donated arguments take no further space.
        "output": max(0.0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes),
        "activations and temporary": analysis.temp_size_in_bytes,
        "machine code": analysis.generated_code_size_in_bytes,
    }
    flops, bytes_moved = count_work(compiled, platform, iterations, outside_bytes)
    return Cost(flops, bytes_moved, memory)


def count_work(
    compiled: jax.stages.Compiled, platform: str, iterations: int = 1, outside_bytes: float = 0
) -> tuple[float, float]:
    """Count the operations and the bytes moved of one execution; nan where there is no count.

    XLA counts the body of a loop once, however often it runs; on a CPU most convolutions are loops
    over planes, so that nothing is counted. Where XLA counts no bytes, as for a GPU, they are
    counted in the text of the program.

    Args:
        compiled: a function that consists of one loop and little else.
        platform: "cpu", "gpu" or "tpu".
        iterations: number of times that the loop runs.
        outside_bytes: bytes that are moved once, outside of the loop.
    """
    if platform == "cpu":
        return math.nan, math.nan
    analysis: Any = compiled.cost_analysis() or {}
    flops = iterations * analysis.get("flops", math.nan)
    if "bytes accessed" not in analysis:
        text = compiled.as_text()
        return flops, count_program_bytes(text) if text else math.nan
    bytes_moved = analysis["bytes accessed"]
    outside = min(bytes_moved, outside_bytes)
    return flops, outside + iterations * (bytes_moved - outside)


def count_parameters(params: Any) -> int:
    """Count the scalars in a pytree of arrays or shapes."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))


def count_bytes(tree: Any) -> float:
    """Count the bytes of a pytree of arrays or shapes."""
    return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)))


def _parse_refusal(message: str) -> Cost:
    """Make a cost of the message that a function is too large; with its size if that is stated."""
    used = re.search(r"Used ([\d.]+)([GM]) of", message)
    memory = {}
    if used:
        memory["all"] = float(used[1]) * {"G": GIB, "M": 2**20}[used[2]]
    lines = [line for line in message.splitlines() if "Used" in line] or message.splitlines()
    return Cost(memory=memory, refusal=lines[0].strip())
