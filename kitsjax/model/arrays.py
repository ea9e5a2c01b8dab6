"""Types of arrays on the device; `kitsjax.types` explains the letters of their axes."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float, Int

Params = Mapping[str, Any]
"""A network's parameters: nested dictionaries of arrays, as Linen keeps them under "params"."""

Image = Float[Array, "b z y x"]
"""Normalized intensities of a batch of patches."""

Label = Int[Array, "b z y x"]
"""Class values of a batch of patches."""

Logits = Float[Array, "b z y x k"]
"""Scores of the classes before softmax, or of the regions before sigmoid."""

Outputs = tuple[Float[Array, "b _ _ _ k"], ...]
"""Logits of the deep supervision outputs, finest first; each is half as long as the one before."""

Scalar = Float[Array, ""]
"""A number on the device."""
