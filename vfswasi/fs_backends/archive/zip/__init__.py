"""Zip archives, to be read or written."""
