"""The files of a profile: finished batches, their order on disk, and reading more than memory holds."""
