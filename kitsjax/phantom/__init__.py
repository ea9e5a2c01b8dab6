"""The synthetic abdomen in KiTS21's layout."""
