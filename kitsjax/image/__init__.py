"""What a scan is: voxels, where they lie, NIfTI files, resampling."""
