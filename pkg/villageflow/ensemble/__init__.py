"""Ensembles: which members to run, running them, and the labelled results."""
