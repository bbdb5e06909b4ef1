"""Werewolves: a game of hidden roles, by nine players or seven."""
