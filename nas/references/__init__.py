"""Published networks: their tables, published figures and trained weights."""
