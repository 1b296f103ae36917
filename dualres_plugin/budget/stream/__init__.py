"""What a stream of frames knows from its past: the last detections, where they move, and when the scene changes."""
