"""Long ways to hurt a host: a fault at every call of a store, and thousands of runs of every ending."""
