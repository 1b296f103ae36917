"""An exported model in a web page, or in Node."""
