"""Remote stores: real servers on loopback, and a proxy that delays, counts and breaks."""
