"""Tables, figures and the paper from results."""
