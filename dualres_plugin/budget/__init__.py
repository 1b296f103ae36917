"""From a budget to a threshold: calibration, cost, and the controller of a stream. Loads no torch."""
