"""Training candidates, and what came of it."""
