"""The runtimes that networks are timed under, one module for each."""
