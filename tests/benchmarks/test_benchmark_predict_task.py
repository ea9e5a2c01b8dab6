import numpy as np

from benchmarks.predict_task import compute_intensities
from kitsjax.data.preprocess import preprocess
from kitsjax.image.volume import make_volume
from kitsjax.settings import PreprocessSettings


def test_intensities_normalize_as_kitsjax_does():
    image = np.rint(np.random.default_rng(0).gamma(2, 300, (20, 30, 40))).astype(np.float32)
    known = compute_intensities(image)
    clipped = np.clip(image, known["percentile_00_5"], known["percentile_99_5"])
    settings = PreprocessSettings(dtype="float32", hu_range=())
    expected = preprocess(make_volume(image, (1.99, 1.99, 1.99)), settings)
    assert np.allclose((clipped - known["mean"]) / known["std"], expected, atol=1e-5)
