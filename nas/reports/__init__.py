"""Reports of a run and of the references: data first, then drawings. No torch."""
