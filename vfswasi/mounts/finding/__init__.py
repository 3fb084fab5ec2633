"""From whatever was passed as a preopen to a store."""
