"""Places where files live, each behind the protocol of `base`."""
