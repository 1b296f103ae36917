"""A frozen detector behind a router, in Python and over any source."""
