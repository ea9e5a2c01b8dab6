"""The published figures of accelerators."""

import pytest

from kitsjax.plan.chips import CHIPS, GIB


@pytest.mark.parametrize("kind", CHIPS)
def test_chips_are_plausible(kind):
    chip = CHIPS[kind]
    assert 10 * GIB < chip.memory_bytes < 200 * GIB
    assert 100e12 < chip.flops_per_second < 2.5e15
    assert 100 < chip.flops_per_second / chip.bytes_per_second < 700
