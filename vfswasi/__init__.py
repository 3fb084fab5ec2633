"""Run any WASI program on files that live anywhere Python can reach."""
