"""Serving the connections of an application."""
