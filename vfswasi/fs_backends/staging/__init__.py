"""Bytes that are not yet where they belong: written by a guest, and stored later as a whole."""
