"""From the bytes of a module to one that can be run: what it may use, its text of refusal, the cache."""
