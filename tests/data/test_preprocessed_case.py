from pathlib import Path

import numpy as np
import pytest

from kitsjax.data.preprocessed_case import PreprocessedCase
from kitsjax.errors import InputError


@pytest.mark.parametrize("name", ["case_00000", "BRATS-001", "a-b-c"])
def test_the_id_is_that_of_the_case(name):
    """Hyphens of its own stay; the stamp of the cache goes."""
    assert PreprocessedCase(Path(f"{name}-0a1b2c3d")).case_id == name


def test_foreground_is_not_held_in_memory(cases):
    # Hundreds of cases of ten thousand positions a class would otherwise stay in it.
    for value in cases[0].present:
        assert isinstance(cases[0].positions(value), np.memmap)
    assert not any(isinstance(kept, dict | np.ndarray) for kept in vars(cases[0]).values())


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_case_that_is_gone_is_one_line(tmp_path, content):
    """The cache may be emptied during a training, before anything of the case was read."""
    folder = tmp_path / "case_00000-0a1b2c3d"
    if content is not None:
        folder.mkdir()
        (folder / "case.json").write_text(content)
    for name in ("shape", "voxels"):
        with pytest.raises(InputError, match=f"case.json: cannot be read.*{folder.name}") as error:
            getattr(PreprocessedCase(folder), name)
        assert "\n" not in str(error.value)
