"""From a decorated function to a route, and from a path to its endpoint."""
