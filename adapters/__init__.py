"""One folder per host; entry points find them, see `dualres_plugin.hosts.registry`."""
