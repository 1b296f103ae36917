"""One file per host; entry points find them, see `dualres_plugin.hosts.registry`."""
