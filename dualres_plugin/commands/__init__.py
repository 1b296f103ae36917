"""The commands of `dualres`, one file per group; each has `register(app)`."""
