"""Samplers, rollout workers and learner as Ray actors, behind the seams of the training loop."""
