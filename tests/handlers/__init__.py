"""Modules with handlers, for what is collected from modules."""
