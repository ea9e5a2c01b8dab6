"""Settings of every test: eight CPU devices, checked shapes, strict dtypes and ranks.

Compiled programs are kept between runs.
"""

import gc
import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Before JAX is imported, which reads them once.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "kitsjax-test-xla")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Types that mix and ranks that broadcast must be meant; in the commands that tests start, too.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

# The shape annotations of the network, its losses and prediction are checked at every call.
install_import_hook(
    [
        "kitsjax.model",
        "kitsjax.infer.predict",
        "kitsjax.infer.predict_slabs",
        "kitsjax.infer.slab_sums",
        "kitsjax.infer.sliding_window",
        "kitsjax.infer.window_probabilities",
        "kitsjax.infer.window_program",
    ],
    "beartype.beartype",
)


def pytest_collection_modifyitems(items):
    """Put files of slow tests first: at the end one worker would wait for the other's."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


NOBODY = 65534


@pytest.fixture
def user_folder():
    """A folder of a user whom permissions bind: where root runs the test, it is another user."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        if is_root:
            os.chown(name, NOBODY, NOBODY)
            # What earlier tests left, such as a pool's semaphores, only root can tidy up.
            gc.collect()
            gc.freeze()
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)
                gc.unfreeze()
