"""Cases on disk, preprocessing, sampling and the pipeline of patches."""
