"""Copy-on-write over any store, and what differs from it then."""
