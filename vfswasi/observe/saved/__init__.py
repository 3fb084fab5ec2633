"""Changes in a file: a zip archive of the new contents and a manifest. docs/changes.md describes it."""
