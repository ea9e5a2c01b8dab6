"""Whole-volume prediction, model files and exported models."""
