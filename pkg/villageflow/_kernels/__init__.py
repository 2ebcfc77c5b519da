"""Compiled kernels: elementary functions and the tape interpreter."""
