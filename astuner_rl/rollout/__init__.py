"""Rollouts: episodes run, retried and closed; groups of them; evaluation on held-out tasks."""
