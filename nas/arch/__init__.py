"""Architectures and the spaces they come from: plain data, no torch."""
