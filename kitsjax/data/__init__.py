"""A data set: cases on disk, splits, annotations, preprocessing and the pipeline of patches."""
