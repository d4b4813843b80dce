"""The cost of a network row by row, and the guidelines that its rows break."""
