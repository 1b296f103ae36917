"""An exported file behind HTTP: `dualres serve`. Loads neither torch nor the host of the detector."""
