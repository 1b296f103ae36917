"""The parts of what `dualres evaluate` writes; `write` puts them together."""
