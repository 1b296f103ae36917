"""Ladders of sizes: which to run at which budget, and the paired proof of it."""
