"""Operating points of published methods, with their sources."""
