"""A run on disk: its journal, records, lock and Pareto front."""
