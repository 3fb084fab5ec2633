"""How vfswasi is in a notebook: run by a real kernel in the suite, and looked at in a real browser with
`python -m tests.notebook`."""
