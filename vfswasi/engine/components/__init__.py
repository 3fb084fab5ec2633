"""Components: their structure, and those whose main module runs on preview1."""
