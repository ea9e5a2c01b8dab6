"""The class probabilities of a batch of windows, averaged over ensemble members and mirrorings."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from kitsjax.labels import LabelScheme
from kitsjax.model.arrays import Params
from kitsjax.model.regions import class_probabilities, predicts_regions


def window_probabilities(
    network: nn.Module,
    params: Params,
    patches: Float[Array, "b i z y x"],
    mirror: bool,
    scheme: LabelScheme,
    image_of: tuple[int, ...] = (),
) -> Float[Array, "b k z y x"]:
    """Average the class probabilities of windows over ensemble members and mirrorings.

    Both are scanned, so that the network compiles once.

    Args:
        network: maps windows (b, z, y, x, 1) to a tuple of logits, the finest first; of regions if
            it has a field `regions` that is true.
        params: stacked parameters: each leaf has a leading axis of ensemble members.
        patches: normalized intensities, of each of the different images that members see.
        mirror: whether to average over the eight mirrorings.
        scheme: the background and its labels are the classes.
        image_of: for each member, which of these images it sees; () if there is only one.
    """
    flips = jnp.array(list(itertools.product((False, True), repeat=3)) if mirror else [[False] * 3])
    members = jax.tree.leaves(params)[0].shape[0]
    regions = predicts_regions(network)

    def add_member(sums: Array, numbered: tuple[Params, Array]) -> tuple[Array, None]:
        member, image = numbered
        # A window of the only image is taken as it is, without a look-up.
        own = patches[:, 0] if patches.shape[1] == 1 else jnp.take(patches, image, axis=1)
        own = own.astype(jnp.float32)

        def add_mirroring(sums: Array, flip: Bool[Array, " 3"]) -> tuple[Array, None]:
            logits = network.apply({"params": member}, _flip(own, flip)[..., None])[0]
            logits = jnp.moveaxis(logits.astype(jnp.float32), -1, 1)
            by_class = class_probabilities(logits, scheme, regions=regions, axis=1)
            return sums + _flip(by_class, flip), None

        return lax.scan(add_mirroring, sums, flips)[0], None

    zeros = jnp.zeros((len(patches), len(scheme.names), *patches.shape[2:]), jnp.float32)
    images = jnp.array(image_of or [0] * members)
    sums, _ = lax.scan(add_member, zeros, (params, images))
    return sums / (members * len(flips))


def _flip(array: Float[Array, "*b z y x"], flip: Bool[Array, " 3"]) -> Float[Array, "*b z y x"]:
    for axis in range(3):
        array = jnp.where(flip[axis], jnp.flip(array, axis - 3), array)
    return array
