"""The groups engine over Redis."""
