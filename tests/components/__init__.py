"""Components: which run, and what is said of the others."""
