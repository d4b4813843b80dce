"""How long a network takes: measured here or on another device, or predicted by a model."""
