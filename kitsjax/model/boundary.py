"""Soft surfaces and how much of them lies near each other: the geometry of `boundary_loss`."""

from collections.abc import Callable
from functools import reduce

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from kitsjax.labels import LabelScheme

ClassProbabilities = Float[Array, "b z y x k"]
Regions = Float[Array, "regions b _ _ _"]
"""One value a voxel or corner for each evaluation class; these classes overlap."""

RegionSums = Float[Array, "b regions"]

_VOXEL_AXES = (2, 3, 4)


def compare_soft_surfaces(
    predicted: ClassProbabilities,
    true: ClassProbabilities,
    reach: int,
    scheme: LabelScheme,
    annotated: Bool[Array, "b z y x"] | None = None,
) -> tuple[RegionSums, RegionSums]:
    """Measure how much of two soft surfaces lies near the other, for each evaluation class.

    The surface elements are the corners between voxels, as in `kitsjax.evaluate.surfaces`, but
    each counts 1 whatever its area, and the faces of the patch have none.

    Args:
        predicted: probabilities of the classes, in 0..1.
        true: probabilities of the truth, 0 or 1.
        reach: corners that are at most this many voxels apart along every axis are near.
        scheme: its evaluation classes are compared.
        annotated: voxels whose truth is known. A corner of any other voxel is no surface element,
            as on the faces of the patch. None: all are.

    Returns:
        near: number of surface elements, of both surfaces, that lie near the other surface.
        size: number of all surface elements of both surfaces.
    """
    predicted_surface = _soft_surface(_merge_classes(predicted, scheme))
    true_surface = _soft_surface(_merge_classes(true, scheme))
    if annotated is not None:
        known = _slide(jnp.minimum, annotated[None].astype(jnp.float32), 2) > 0
        predicted_surface = jnp.where(known, predicted_surface, 0)
        true_surface = jnp.where(known, true_surface, 0)
    near = predicted_surface * _widen(true_surface, reach)
    near += true_surface * _widen(predicted_surface, reach)
    size = predicted_surface + true_surface
    return near.sum(_VOXEL_AXES).T, size.sum(_VOXEL_AXES).T


def _merge_classes(probabilities: ClassProbabilities, scheme: LabelScheme) -> Regions:
    """Add up the probabilities of the labels that each evaluation class unites."""
    # The regions come first, so that the windows below run along x, contiguous in memory.
    labels = jnp.moveaxis(probabilities, -1, 0)
    unions = [each.labels for each in scheme.evaluation]
    return jnp.stack([reduce(jnp.add, [labels[i] for i in union]) for union in unions])


def _soft_surface(probability: Regions) -> Regions:
    """Take the range of the eight voxels around each corner: 1 where a hard surface passes.

    The corners on the faces of the patch have fewer voxels and are left out, because a patch's
    face is no surface. An axis of n voxels has n - 1 corners.
    """
    return _slide(jnp.maximum, probability, 2) - _slide(jnp.minimum, probability, 2)


def _widen(surface: Regions, reach: int) -> Regions:
    """Take the maximum over the corners within `reach` along every axis; the shape stays."""
    margins = [(0, 0), (0, 0), *[(reach, reach)] * 3]
    return _slide(jnp.maximum, jnp.pad(surface, margins), 2 * reach + 1)


def _slide(extreme: Callable[[Array, Array], Array], array: Regions, width: int) -> Regions:
    """Take the maximum or minimum of every window of `width` cubed that fits."""
    # The extremes of shifted arrays, one axis after another. The gradient of `lax.reduce_window`
    # is a scatter: on a CPU, at 64 cubed, the loss and its gradient take three times as long.
    for axis in _VOXEL_AXES:
        size = array.shape[axis] - width + 1
        shifted = [lax.slice_in_dim(array, i, i + size, axis=axis) for i in range(width)]
        array = reduce(extreme, shifted)
    return array
