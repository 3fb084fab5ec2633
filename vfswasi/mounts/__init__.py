"""From whatever was passed as a preopen to a table of mounts that were checked against each other."""
