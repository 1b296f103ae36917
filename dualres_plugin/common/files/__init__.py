"""Files: read with one message where they are wrong, written whole or not at all."""
