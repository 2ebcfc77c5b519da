"""From data to parameters: problems, fits, predictions, history matching."""
