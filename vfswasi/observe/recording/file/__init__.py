"""A recording as a zip archive: a manifest, and what the run was given, read and wrote."""
