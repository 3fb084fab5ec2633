"""Trees whose files are elsewhere: what is common to all stores that are reached through a client library."""
