import numpy as np


def test_foreground_is_not_held_in_memory(cases):
    # Hundreds of cases of ten thousand positions a class would otherwise stay in it.
    for positions in cases[0].foreground.values():
        assert isinstance(positions, np.memmap)
    assert not any(isinstance(value, dict) for value in vars(cases[0]).values())
