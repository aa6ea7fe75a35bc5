"""A model behind HTTP: requests are checked, gathered into batches, scored, and answered in JSON."""
