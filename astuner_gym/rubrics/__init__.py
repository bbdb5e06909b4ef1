"""Rubrics from labelled examples: ``python -m astuner_gym.rubrics learn examples.jsonl``."""
