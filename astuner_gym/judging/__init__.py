"""Judges made of parts: rules that compose, penalties, language models and rubrics."""
