"""The phantom: a synthetic abdomen in KiTS21's layout."""
