"""The search: what to try next, where to run it, and how nothing is lost. Only the driver touches the study."""
