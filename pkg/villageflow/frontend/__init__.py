"""Readers of model files. Nothing behind this layer knows a file format."""
