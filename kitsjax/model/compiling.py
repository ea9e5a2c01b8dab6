"""The options that programs are compiled with on each platform."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax

from kitsjax.errors import InputError, first_line

_logger = logging.getLogger(__name__)

Options = dict[str, Any]
"""Values of XLA's options by their names."""

_CHANNELS_LAST: Options = {"xla_gpu_force_conv_nhwc": True}

_UNFUSED: Options = {"xla_disable_hlo_passes": "cudnn-fused-convolution-rewriter"}

_COMPILED_SOONER: Options = {"xla_backend_optimization_level": 2}

COMPILER_OPTIONS: dict[str, tuple[Options, ...]] = {
    "cpu": (_COMPILED_SOONER,),
    "gpu": (_CHANNELS_LAST, _CHANNELS_LAST | _UNFUSED, _UNFUSED),
}
"""XLA's options by platform: the first that the compiler takes are used, and XLA_FLAGS goes before
them.

On a CPU, XLA's highest level of optimization takes a third longer to compile a train step, which is
no faster then; the level below this one makes it 5 % slower.

On a GPU, XLA gives 3D convolutions channels-first layouts; cuDNN's kernels for tensor cores want
the channels last, as the arrays have them: on an H100 the four layers that were timed then took
0.37 to 0.69 of the time (benchmarks/README.md; jax 0.11.2 took the option for every layer). On
another GPU cuDNN may have no kernel for that order, or none for the sum of two convolutions that
XLA makes one call of, which `_UNFUSED` leaves apart.
"""


def compile_program(lowered: Any, platform: str) -> Any:
    """Compile a lowered function with the options of its platform.

    Where the compiler refuses them, as it may if cuDNN lacks a kernel, a note says so and the next
    ones are tried, at last none.

    Args:
        lowered: what `jax.jit(f).lower(...)` returns.
        platform: "cpu", "gpu" or "tpu".

    Returns:
        The compiled function, a `jax.stages.Compiled`.
    """
    for options in _choose_options(platform):
        try:
            return lowered.compile(options)
        except jax.errors.JaxRuntimeError as error:
            _note_refusal(error, options)
    return lowered.compile()


def _choose_options(platform: str) -> list[Options]:
    """Choose the options to try in turn: what a user gives in XLA_FLAGS goes first."""
    given = os.environ.get("XLA_FLAGS", "")
    several = [
        {name: value for name, value in options.items() if f"--{name}=" not in given}
        for options in COMPILER_OPTIONS.get(platform, ())
    ]
    return [options for options in several if options]


def _note_refusal(error: Exception, options: Options) -> None:
    """Log a note that the compiler refused options; raise the error if it is a lack of memory."""
    if is_out_of_memory(error):
        raise error
    named = ", ".join(f"{name}={value}" for name, value in options.items())
    _logger.warning("the compiler refused %s (%s); compiled without", named, first_line(error))


class CompiledAtFirstCall:
    """A function that is compiled with its platform's options when it is first called.

    Args:
        mapped: a function of jit or pmap, always called with arrays of the same shapes.
        platform: "cpu", "gpu" or "tpu".
    """

    def __init__(self, mapped: Any, platform: str) -> None:
        self._mapped, self._platform = mapped, platform
        self._compiled: Any = None

    def lower(self, *args: Any) -> Any:
        """Lower the function without compiling it."""
        return self._mapped.lower(*args)

    def __call__(self, *args: Any) -> Any:
        """Call the function, and compile it if this is the first time."""
        if self._compiled is None:
            self._compiled = compile_program(self._mapped.lower(*args), self._platform)
        return self._compiled(*args)


class JitByPlatform:
    """A function of `jax.jit` that is compiled with the options of JAX's default platform.

    Attributes:
        jitted: the function as `jax.jit` makes it, without any options.
    """

    def __init__(self, function: Callable[..., Any], static_argnames: Sequence[str] = ()) -> None:
        jit = partial(jax.jit, function, static_argnames=static_argnames)
        self.jitted = jit()
        self._with_options = {
            platform: [
                (options, jit(compiler_options=options)) for options in _choose_options(platform)
            ]
            for platform in COMPILER_OPTIONS
        }

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """Lower the function without options; `compile_program` gives them."""
        return self.jitted.lower(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; options that the compiler refuses are not tried again."""
        leaves = jax.tree.leaves((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            # JAX takes options only of a whole program, and this is a part of one. A part whose
            # arguments are all constants cannot be told from a whole one, and JAX refuses it.
            return self.jitted(*args, **kwargs)
        untried = self._with_options.get(jax.default_backend(), [])
        while untried:
            options, jitted = untried[0]
            try:
                return jitted(*args, **kwargs)
            except jax.errors.JaxRuntimeError as error:
                _note_refusal(error, options)
                del untried[0]
        return self.jitted(*args, **kwargs)


def use_options(mapped: Any, platform: str) -> Callable[..., Any]:
    """Let a mapped function be compiled with its platform's options, if it has any.

    JAX cannot lower ahead what several processes run together (jax 0.10.2); there the function
    stays as it is, and XLA_FLAGS can give the options.
    """
    if platform not in COMPILER_OPTIONS or jax.process_count() > 1:
        found: Callable[..., Any] = mapped
        return found
    return CompiledAtFirstCall(mapped, platform)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of JAX says that a device, or its compiler, lacks memory."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error)


@contextmanager
def explain_lack(advice: str, source: str = "") -> Iterator[None]:
    """Turn a device's lack of memory into one line that says what needs less.

    Args:
        advice: settings that need less memory.
        source: what was computed, such as "scan.nii.gz: "; empty: the line does not name it.

    Raises:
        InputError: the device, or its compiler, lacks memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"{source}the device is out of memory ({first_line(error)}); set {advice}"
        ) from None
