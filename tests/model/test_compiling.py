"""Programs are compiled with the options of their platform, or without where it refuses them."""

import jax
import jax.numpy as jnp
import pytest

from kitsjax.model import compiling


class Lowered:
    """A lowered function whose compiler may refuse options; what it was compiled with is kept."""

    def __init__(self, refusal: str = "", refused=lambda options: bool(options)) -> None:
        self.refusal, self.refused, self.tried = refusal, refused, []

    def compile(self, options=None):
        self.tried.append(options)
        if self.refusal and self.refused(options):
            raise jax.errors.JaxRuntimeError(self.refusal)
        return "compiled"


OPTIONS = compiling.COMPILER_OPTIONS["gpu"]
PLATFORMS = [("gpu", OPTIONS[0]), ("cpu", compiling.COMPILER_OPTIONS["cpu"][0]), ("tpu", None)]


@pytest.mark.parametrize(("platform", "options"), PLATFORMS)
def test_each_platform_has_its_options(platform, options):
    lowered = Lowered()
    assert compiling.compile_program(lowered, platform) == "compiled"
    assert lowered.tried == [options]


def test_what_the_compiler_refuses_is_left_out(caplog):
    lowered = Lowered("INTERNAL: no valid engine for this layout")
    assert compiling.compile_program(lowered, "gpu") == "compiled"
    assert lowered.tried == [*OPTIONS, None]
    assert "refused xla_gpu_force_conv_nhwc=True (INTERNAL: no valid engine" in caplog.text


def test_sums_that_cudnn_lacks_stay_apart():
    """If it is the sum of two that cuDNN lacks, the channels still come last."""
    passes = "xla_disable_hlo_passes"
    lowered = Lowered("INTERNAL: no engine", lambda options: passes not in options)
    compiling.compile_program(lowered, "gpu")
    assert lowered.tried == [*OPTIONS[:2]]
    assert lowered.tried[-1] == {**OPTIONS[0], passes: "cudnn-fused-convolution-rewriter"}


def test_a_lack_of_memory_is_no_refusal():
    lowered = Lowered("RESOURCE_EXHAUSTED: out of memory")
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        compiling.compile_program(lowered, "gpu")
    assert lowered.tried == [OPTIONS[0]]


def test_a_step_is_compiled_once_with_options(monkeypatch):
    monkeypatch.setitem(compiling.COMPILER_OPTIONS, "cpu", ({"xla_cpu_enable_fast_math": False},))
    traced = []

    @jax.pmap
    def double(x):
        traced.append(x.shape)
        return 2 * x

    step = compiling.use_options(double, "cpu")
    x = jnp.ones((jax.local_device_count(), 3))
    assert [float(step(x)[0, 0]) for _ in range(3)] == [2, 2, 2]
    assert traced == [(3,)]
    assert compiling.use_options(double, "tpu") is double


@pytest.mark.parametrize("known", [True, False])
def test_jit_uses_the_options_it_can(monkeypatch, caplog, known):
    """An option that the compiler does not know is noted once, and the result is right."""
    name = "xla_cpu_enable_fast_math" if known else "xla_no_such_option"
    monkeypatch.setitem(compiling.COMPILER_OPTIONS, "cpu", ({name: False},))
    double = compiling.JitByPlatform(lambda x, times: times * x, ("times",))
    assert [float(double(jnp.ones(()), times=2)) for _ in range(2)] == [2, 2]
    assert caplog.text.count("compiled without") == (0 if known else 1)
    assert double.jitted._cache_size() == (0 if known else 1)


def test_xla_flags_go_first(monkeypatch):
    (name,) = compiling.COMPILER_OPTIONS["cpu"][0]
    monkeypatch.setenv("XLA_FLAGS", f"--xla_cpu_copy_insertion_use_region_analysis=true --{name}=0")
    lowered = Lowered()
    compiling.compile_program(lowered, "cpu")
    assert lowered.tried == [None]


def test_jit_is_part_of_another_program():
    """JAX refuses options there."""
    double = compiling.JitByPlatform(lambda x: 2 * x)
    assert float(jax.jit(lambda x: double(x) + 1)(jnp.ones(()))) == 3
