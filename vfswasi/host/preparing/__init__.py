"""From what a caller asked for to a run that can begin."""
