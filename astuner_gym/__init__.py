"""Environments: an agent workflow and its judge, stepped or rolled out; imports no torch."""
