"""Sessions: one instance for many calls, and copies of it."""
