"""Environments as other libraries want them, one file a library."""
