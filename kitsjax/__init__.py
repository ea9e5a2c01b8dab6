"""kitsjax: 3D segmentation of kidneys, renal tumors and cysts on CT, in pure JAX."""

__version__ = "0.1.0"
