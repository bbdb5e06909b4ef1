"""Tracking: from the calls of an episode to the tokens that are trained, and why others are not."""
