"""A linear head on frozen features, in closed form."""
