"""A detector with its router as ONNX."""
