"""The latency model of a space: timed parts of networks, and the fit that predicts the rest."""
