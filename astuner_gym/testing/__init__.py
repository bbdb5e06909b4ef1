"""What every environment must hold to, as tests for pytest and as one table.

``python -m astuner_gym.testing`` prints the table of all registered environments.
"""

from astuner_gym.testing.conformance import EnvironmentConformance

__all__ = ["EnvironmentConformance"]
