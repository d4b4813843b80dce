"""Architectures, and the spaces that they are drawn from: plain data, without torch."""
