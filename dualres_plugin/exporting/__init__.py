"""Detectors with their router as ONNX files."""
