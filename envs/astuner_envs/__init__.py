"""Environments that ship with ASTuner: each a workflow, a judge and tasks; no learner, no torch."""
