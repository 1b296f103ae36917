"""Operating points of published methods and detectors, their tables and plots."""
