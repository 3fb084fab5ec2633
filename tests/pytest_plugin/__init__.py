"""The pytest plugin, tried by pytests within pytest."""
