"""DICOM: series of CT images to volumes, and label maps to DICOM SEG; the extra `dicom`."""
