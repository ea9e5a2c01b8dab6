"""Types that several rooms share, and what the letters in array shapes mean.

Arrays on the host are (z, y, x), pointing inferior, posterior and left; on the device they are
(batch, z, y, x, channel). Shape annotations use these letters:

    b        samples of a batch, or sliding windows computed together
    z y x    axes of a volume or patch, in voxels
    Z Y X    axes of a second grid: the oversized patch, the padded volume, the output of a stride
    c, i, o  channels; input and output channels of a convolution
    k        classes: background, kidney, tumor, cyst
    n        items of a list: positions, surface elements, windows

This module loads no JAX; `kitsjax.model.arrays` has the types of arrays on the device.
"""

Shape = tuple[int, int, int]
"""Number of voxels along (z, y, x)."""

Index = tuple[int, int, int]
"""A voxel's index (z, y, x), or that of a corner between voxels."""

Spacing = tuple[float, float, float]
"""Edge lengths (z, y, x) of a voxel, in mm."""

Box = tuple[slice, slice, slice]
"""A box of voxels: the slices (z, y, x) that cut it out of a volume."""
