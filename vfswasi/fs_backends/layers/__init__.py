"""One concern each, put in front of another store."""
