"""File systems of PyFilesystem2."""
