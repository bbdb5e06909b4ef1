"""What runs with AppWorld's engine, in the virtual environment that scripts/setup_appworld makes.

Files here are scripts for that environment's Python. They may import what lies in
``astuner_envs.appworld.mini``, and nothing that needs agentscope, which cannot be installed beside
the engine.
"""
