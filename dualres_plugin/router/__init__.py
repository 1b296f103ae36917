"""The resolution router: network, configuration, gate, checkpoint."""
