"""Scores of predictions against the truth. NumPy and SciPy only, no JAX."""
