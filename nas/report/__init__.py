"""The report of a run: plain data first (tables, strips, claims), then the drawings and pages made of it.
It is drawn from a `nas.search.record.Record` alone, so it can be made again at any time."""
