"""Checks of models and of the tables beside them."""
