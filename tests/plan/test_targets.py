"""TPUs and GPUs that need not exist here: what is refused."""

import pytest

from kitsjax.errors import InputError
from kitsjax.plan import targets
from kitsjax.plan.chips import CHIPS


@pytest.mark.parametrize("target", ["", "v5e", "h100:1", "h100x0", "a100", "v5e:2by2", "v5e:0x0"])
def test_an_unknown_target_is_refused(target):
    with pytest.raises(InputError, match=r"unknown; give a GPU .*h100x8.* or .* a TPU slice"):
        targets.target_devices(target)


@pytest.mark.parametrize(
    ("target", "install"), [("v5e:2x2", "libtpu>=0.0.42"), ("h100x8", r"jax\[cuda13\]==\d")]
)
def test_a_target_needs_the_compiler(monkeypatch, target, install):
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"not installed .*{install}"):
        targets.target_devices(target)


def test_every_gpu_is_described():
    for kind in targets.GPUS.values():
        assert CHIPS[kind].gpu is not None
