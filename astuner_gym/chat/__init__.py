"""Between agents and policies: messages, the AgentScope chat model, and reply parsers."""
