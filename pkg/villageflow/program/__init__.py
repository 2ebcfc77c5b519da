"""The compiled form of a model: a tape of register operations, valid by construction."""
