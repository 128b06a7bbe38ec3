"""API Star's dependency injection for WebSockets."""
