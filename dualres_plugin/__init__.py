"""Dynamic-resolution object detection for detectors that people already run."""
