"""The short training that scores a candidate, and the evaluations that workers return."""
