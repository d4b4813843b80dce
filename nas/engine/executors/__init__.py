"""Where candidates are evaluated: this process, worker processes, or a Ray cluster."""
