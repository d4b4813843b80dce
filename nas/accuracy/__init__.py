"""How accurate a network will be: a model learned from published trainings and from one's own, with its uncertainty.
Every estimate is a mean with a standard deviation and says what it rests on."""
