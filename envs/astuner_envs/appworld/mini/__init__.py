"""The mini world: people, scenarios and their checks, all of the project's own making."""
