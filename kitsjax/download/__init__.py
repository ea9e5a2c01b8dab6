"""Get a KiTS data set from where it is published: resumed, checked, and nothing twice."""
