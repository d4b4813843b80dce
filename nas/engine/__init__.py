"""The search: proposals, evaluation, the run folder. No torch, and Ray only where it is asked for."""
