"""Typed messages: codecs, schemas and the compiler."""
