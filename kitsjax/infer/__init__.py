"""Whole-volume prediction and saved models."""
