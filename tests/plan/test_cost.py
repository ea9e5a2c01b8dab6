"""The cost of a compiled function: the roofline bound, the work of loops, a refusal."""

import math

import jax
import pytest

from kitsjax.plan.chips import GIB, Chip
from kitsjax.plan.cost import Cost, count_work, measure_cost

CHIP = Chip("chip", 2 * GIB, flops_per_second=1e12, bytes_per_second=1e9)


@pytest.mark.parametrize(("bytes_moved", "seconds"), [(2e9, 3), (5e9, 5)])
def test_roofline_is_the_slower_of_both(bytes_moved, seconds):
    """Either the arithmetic or the memory is what takes longer."""
    assert Cost(flops=3e12, bytes_moved=bytes_moved).roofline_seconds(CHIP) == seconds


class Compiled:
    """A compiled function of a known analysis and text."""

    def __init__(self, analysis: dict[str, float] | None, text: str = "") -> None:
        self.analysis, self.text = analysis, text

    def as_text(self) -> str:
        return self.text

    def cost_analysis(self) -> dict[str, float] | None:
        return self.analysis


def test_a_loops_body_counts_as_often_as_it_runs():
    compiled = Compiled({"flops": 10.0, "bytes accessed": 100.0})
    assert count_work(compiled, "tpu") == (10, 100)
    # 20 bytes are outside of the loop, 80 within.
    assert count_work(compiled, "tpu", 4, 20) == (40, 20 + 4 * 80)
    assert all(math.isnan(count) for count in count_work(Compiled(None), "tpu"))
    # On a CPU the convolutions are loops, too, which run as often as the volume has planes.
    assert all(math.isnan(count) for count in count_work(compiled, "cpu"))


def test_bytes_are_counted_where_xla_counts_none():
    text = "ENTRY %main (a: f32[8]) -> f32[8] {\n  %a = f32[8]{0} parameter(0)\n"
    text += "  ROOT %b = f32[8]{0} copy(%a)\n}\n"
    flops, bytes_moved = count_work(Compiled(None, text), "gpu")
    assert math.isnan(flops)
    assert bytes_moved == 64


def test_a_refusal_is_kept_with_its_size():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\n"
        "Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G."
    )

    class Lowered:
        def compile(self, options: object = None) -> None:
            raise jax.errors.JaxRuntimeError(message)

    cost = measure_cost(Lowered(), "cpu", {})
    assert cost.memory_bytes == 20.5 * GIB
    assert cost.refusal == message.splitlines()[1]


def test_another_error_of_the_compiler_is_raised():
    class Lowered:
        def compile(self, options: object = None) -> None:
            raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        measure_cost(Lowered(), "cpu", {})
