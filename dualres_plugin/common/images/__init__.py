"""Photos and videos: decoding them, and what people pass as a source of them."""
