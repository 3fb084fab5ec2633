"""Calls with a path: where it leads, and what is done there."""
