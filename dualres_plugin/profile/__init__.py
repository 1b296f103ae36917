"""Measuring a detector at its sizes over a data set, once, and what the result says about each image."""
