"""One instance of a module for many calls, and copies of it."""
