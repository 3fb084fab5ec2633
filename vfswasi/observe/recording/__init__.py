"""A run in a file, from which it can be run again anywhere. docs/replay.md describes it."""
