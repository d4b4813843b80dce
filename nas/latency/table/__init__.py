"""The latency model of a space: it times networks and their parts, and predicts all other networks."""
