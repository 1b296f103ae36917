"""The embedded default: generated scenes, a small detector and a router trained by this project."""
