"""Measures kitsjax beside its baselines: the same work on the same arrays in the same run."""
