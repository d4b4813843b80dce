"""Latency: measured on this host, predicted by a model fitted to such measurements, or answered by another device.
A `Latency` always says which of these it is, and on what device, runtime and number of threads."""
