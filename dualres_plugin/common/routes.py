"""Steps and names of routes that everybody knows."""

SKIP = -1  # the step of a frame of a stream on which no size runs: it reuses what was found before
SKIPPED = "skip"  # its route
