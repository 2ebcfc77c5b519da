"""The typed intermediate representation: expressions, the model as written, the model as lowered."""
