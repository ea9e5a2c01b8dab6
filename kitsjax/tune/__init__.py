"""Choices that held-out scores make after training: the steps of post-processing."""
