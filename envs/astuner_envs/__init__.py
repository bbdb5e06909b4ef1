"""Environments that ship with ASTuner: each a workflow, a judge and tasks; no learner, no torch.

Importing the package gives Gymnasium their ids: ``gymnasium.make("astuner/gsm8k-v0")``, or in one
go ``gymnasium.make("astuner_envs:astuner/gsm8k-v0")``. Gymnasium 1.x finds no ids by itself.
"""

import gymnasium

gymnasium.register(id="astuner/gsm8k-v0", entry_point="astuner_envs.gsm8k.stepped:make")
gymnasium.register(
    id="astuner/learn_to_ask-v0", entry_point="astuner_envs.learn_to_ask.stepped:make"
)
