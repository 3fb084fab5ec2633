"""One run of a sandbox: what is asked of it, how it is held and awaited, what it comes to."""
