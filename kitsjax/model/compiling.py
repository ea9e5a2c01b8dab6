"""The options that programs are compiled with on each platform."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax

from kitsjax.errors import first_line

_logger = logging.getLogger(__name__)

COMPILER_OPTIONS: dict[str, dict[str, Any]] = {"gpu": {"xla_gpu_force_conv_nhwc": True}}
"""XLA's options by platform.

On a GPU, XLA gives 3D convolutions channels-first layouts; cuDNN's kernels for tensor cores want
the channels last, as the arrays have them. By the compiler's account the train step of kits21.toml
on an H100 then moved 64.9 GiB instead of 67.6, and needed 7.5 GiB of temporary memory instead of
8.3 (jax 0.10.2). No GPU has run it yet.
"""


def compile_program(lowered: Any, platform: str) -> Any:
    """Compile a lowered function with the options of its platform.

    Where the compiler refuses them, as it may if cuDNN has no kernel for a layout, a note says so
    and the function is compiled without.

    Args:
        lowered: what `jax.jit(f).lower(...)` returns.
        platform: "cpu", "gpu" or "tpu".

    Returns:
        The compiled function, a `jax.stages.Compiled`.
    """
    if options := COMPILER_OPTIONS.get(platform):
        try:
            return lowered.compile(options)
        except jax.errors.JaxRuntimeError as error:
            if is_out_of_memory(error):
                raise
            note_refusal(error, options)
    return lowered.compile()


def note_refusal(error: Exception, options: dict[str, Any]) -> None:
    """Log a note that the compiler refused its options."""
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
        self.jitted = jax.jit(function, static_argnames=static_argnames)
        self._with_options = {
            platform: jax.jit(function, static_argnames=static_argnames, compiler_options=options)
            for platform, options in COMPILER_OPTIONS.items()
        }

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """Lower the function without options; `compile_program` gives them."""
        return self.jitted.lower(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; where the compiler refuses the options, without them from then on."""
        platform = jax.default_backend()
        if with_options := self._with_options.get(platform):
            try:
                return with_options(*args, **kwargs)
            except jax.errors.JaxRuntimeError as error:
                if is_out_of_memory(error):
                    raise
                note_refusal(error, COMPILER_OPTIONS[platform])
                del self._with_options[platform]
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
