"""Changes are made in a directory, an archive, a bucket, or whatever else can be mounted."""
