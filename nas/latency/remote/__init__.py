"""Measuring on another device: the agent that runs there, and its client that runs here."""
