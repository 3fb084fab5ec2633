"""A page about a run, for people."""
