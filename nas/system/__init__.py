"""The ground: errors, units, files, facts about this machine. Knows nothing of networks."""
