"""The parts of what `dualres evaluate` writes; `dualres_plugin.report` puts them together."""
