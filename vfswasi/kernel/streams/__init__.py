"""Descriptors that are neither file nor directory: standard streams, devices, and waiting for them."""
