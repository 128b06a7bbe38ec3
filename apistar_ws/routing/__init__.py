"""Decorators, routes and routers."""
