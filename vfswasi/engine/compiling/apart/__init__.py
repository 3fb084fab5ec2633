"""Compiling in a process of its own, which can be ended: the side that waits, and the side that compiles."""
