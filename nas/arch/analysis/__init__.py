"""What a network costs, row by row, and what ShuffleNetV2's guidelines say of it."""
