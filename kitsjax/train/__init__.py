"""Augmentation, the compiled step, checkpoints and the run."""
