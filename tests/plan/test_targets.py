"""TPU slices that need not exist here: what is refused."""

import pytest

from kitsjax.errors import InputError
from kitsjax.plan import targets


@pytest.mark.parametrize("target", ["", "v5e", "h100:1", "v5e:2by2", "v5e:0x0"])
def test_an_unknown_target_is_refused(target):
    with pytest.raises(InputError, match="not a TPU slice; write its chips as v5e:2x2"):
        targets.tpu_devices(target)


def test_a_target_needs_the_compiler(monkeypatch):
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs libtpu's compiler"):
        targets.tpu_devices("v5e:2x2")
