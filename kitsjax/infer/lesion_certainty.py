"""How sure a prediction is of its lesions."""

import numpy as np
from jaxtyping import Float, UInt8

from kitsjax.labels import LabelScheme


class LesionCertainty:
    """The probability of each predicted lesion voxel to belong to a lesion of any label.

    It is gathered while a CT comes back to its own grid slice by slice, and takes 8 bytes a lesion
    voxel at most, where the probabilities of the whole CT would take gigabytes.
    """

    def __init__(self, scheme: LabelScheme) -> None:
        self._lesions = scheme.lesions
        self._parts = [np.zeros(0, np.float32)]

    def add(
        self, by_class: Float[np.ndarray, "k n y x"], label: UInt8[np.ndarray, "n y x"]
    ) -> None:
        """Take the probabilities and labels of the next slices, as far as they hold lesions."""
        voxels = np.nonzero(np.isin(label, self._lesions))
        none = np.zeros(len(voxels[0]), np.float32)
        self._parts.append(sum((by_class[each][voxels] for each in self._lesions), none))

    def join(self) -> Float[np.ndarray, " n"]:
        """Return the probability of every lesion voxel of the label map, in C order."""
        return np.concatenate(self._parts)
