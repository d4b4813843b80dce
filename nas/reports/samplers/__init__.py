"""The comparison of samplers on replayed searches: data first, then the drawing."""
