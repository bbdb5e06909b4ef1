"""Hydra groups: YAML that chooses among the dataclasses of ``astuner_rl``."""
