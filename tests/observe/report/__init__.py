"""The page about a run: what it says, what it must not do, how it is in a browser."""
