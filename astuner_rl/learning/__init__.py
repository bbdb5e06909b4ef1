"""Learning: from agent-episodes to new weights.

``batch`` flattens agent-episodes into arrays of sampled tokens, ``layout`` cuts their rows into
forward passes, ``scoring`` reads log-probs there, ``policy`` and ``critic`` take optimizer steps,
``grpo`` and ``ppo`` are the algorithms, ``supervised`` is fine-tuning on given tokens.
"""
