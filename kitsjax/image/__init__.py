"""Scans: voxels and where they lie in the patient, NIfTI files, resampling."""
