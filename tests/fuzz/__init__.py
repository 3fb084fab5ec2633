"""Random plans of calls, and archives with random damage: what must hold whatever a guest or an archive does."""
