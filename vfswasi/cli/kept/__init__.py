"""Commands for what is kept of a run."""
