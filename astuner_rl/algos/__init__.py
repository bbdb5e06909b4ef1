"""Advantages, weights and losses: pure tensor functions over flat arrays of sampled tokens.

Shapes: ``N`` sampled tokens in canonical order (agent-episode, call, position), ``U``
agent-episodes, ``V`` the vocabulary. ``unit [N]`` gives each token's agent-episode. No function
knows how tokens were cut into rows, so no weight, baseline or return can depend on the cut.
"""
