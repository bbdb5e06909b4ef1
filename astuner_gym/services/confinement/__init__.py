"""Becomes a program that can reach only what it was given; needs the standard library alone."""
