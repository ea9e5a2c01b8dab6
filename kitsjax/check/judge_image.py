"""Judge a CT by its values and its size: is it in HU, and does it show an abdomen."""

from collections.abc import Iterator

import numpy as np

from kitsjax.check.findings import Finding
from kitsjax.data.normalization import Histogram
from kitsjax.image.volume import Grid

AIR_HU = -1000

SHIFT_HU = 100
"""A CT counts as shifted if its air is this far from `AIR_HU`; noise and lungs move it less."""

LEAST_AIR_HU, MOST_AIR_HU = AIR_HU - SHIFT_HU, -300
"""Values between these are taken for air, or for lungs, in which air is the darkest."""

LEAST_AIR = 0.05
"""With a smaller share of such values, air says nothing: the scan is cut close to the body."""

DARKEST = 0.05
"""So large a share of the air-like voxels, the darkest, is air and no lung."""

SOFT_TISSUE_HU = (-100, 400)
"""The median of labeled voxels lies within this: fat, fluid, tissue, and tissue with contrast."""

PADDED_SHARE, CLIPPED_SHARE = 0.001, 0.05
"""Shares of the voxels that are below air, or at the lowest value, before it is worth a word."""

LEAST_FIELD_MM = (100.0, 180.0, 180.0)
"""A scan that is smaller (z, y, x) hardly shows both kidneys; the smallest of KiTS are 145 mm long
and 200 mm wide."""


def judge_hu(histogram: Histogram, labeled: np.ndarray | None) -> Iterator[Finding]:
    """Yield what is wrong with the values of a CT, if they are HU at all.

    Args:
        histogram: of all voxels.
        labeled: (n,) values of the labeled voxels; None or empty if they are not known.
    """
    hu, counts = histogram.hu, histogram.counts
    total, lowest = counts.sum(), hu[0]
    if lowest >= 0:
        yield Finding(
            "unsigned HU",
            f"values go from {lowest} to {hu[-1]}, and none is negative as air (-1000 HU) and fat "
            "are; subtract the offset, often 1024, or correct scl_inter",
        )
        return
    outside = counts[hu < LEAST_AIR_HU]
    share = outside.sum() / total
    # Padding is one value; air that is shifted has noise.
    is_padded = share > PADDED_SHARE and outside.max() > outside.sum() / 2
    if is_padded:
        yield Finding(
            "padded HU",
            f"{share:.1%} of the voxels are below air, most of them {hu[outside.argmax()]}: filled "
            "up outside of the scanner's field of view; preprocess.hu_range clips them",
        )
    if lowest > AIR_HU + SHIFT_HU and counts[0] > CLIPPED_SHARE * total:
        yield Finding(
            "clipped HU",
            f"{counts[0] / total:.1%} of the voxels have the lowest value, {lowest} HU: what lies "
            "below it is lost; get the CT with its whole range",
        )
    elif share > PADDED_SHARE and not is_padded:
        yield Finding("shifted HU", f"{share:.1%} of the voxels are below air, down to {lowest} HU")
    elif why := _describe_shift(histogram, labeled):
        yield Finding("shifted HU", why)


def _describe_shift(histogram: Histogram, labeled: np.ndarray | None) -> str:
    """Say why air, or else the labeled tissue, is not where it should be; empty if it is."""
    inside = (histogram.hu >= LEAST_AIR_HU) & (histogram.hu < MOST_AIR_HU)
    dark, upto = histogram.hu[inside], np.cumsum(histogram.counts[inside])
    if len(dark) and upto[-1] > LEAST_AIR * histogram.counts.sum():
        air = dark[np.searchsorted(upto, DARKEST * upto[-1])]
        if air > AIR_HU + SHIFT_HU:
            return f"the darkest voxels are at {air} HU, and air is at {AIR_HU}"
    low, high = SOFT_TISSUE_HU
    if labeled is None or not labeled.size or low <= (middle := np.median(labeled)) <= high:
        return ""
    return (
        f"the median of the labeled voxels is {middle:.0f} HU, and soft tissue lies between {low} "
        f"and {high}"
    )


def judge_field(grid: Grid) -> Iterator[Finding]:
    """Yield a warning if a scan covers too little of a patient."""
    edges = [n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)]
    if any(edge < least for edge, least in zip(edges, LEAST_FIELD_MM, strict=True)):
        shown, least = (" x ".join(f"{mm:.0f}" for mm in size) for size in (edges, LEAST_FIELD_MM))
        yield Finding(
            "small field of view",
            f"the scan measures {shown} mm (z, y, x); less than {least} mm hardly shows an abdomen",
        )
