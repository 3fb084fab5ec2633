"""Web servers: their pages, and what they may answer."""
