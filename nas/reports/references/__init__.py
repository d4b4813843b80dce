"""The table of published networks: plain data first, then text, HTML and a plot."""
