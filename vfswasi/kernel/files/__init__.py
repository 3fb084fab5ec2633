"""What stands behind a descriptor of a file or a directory: identity, contents, what they may grow by."""
