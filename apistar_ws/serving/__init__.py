"""What serves the connections of an application."""
