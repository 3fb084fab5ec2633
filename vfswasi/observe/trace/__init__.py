"""The calls that a guest made, as values."""
