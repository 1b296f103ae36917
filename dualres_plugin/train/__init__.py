"""From a profile to a router."""
