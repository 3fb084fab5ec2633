"""The command line: `vfswasi run`, `vfswasi inspect`."""
