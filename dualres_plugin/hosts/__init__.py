"""What a detector ecosystem must offer to be routed, and how its adapter is found."""
