"""The AsyncAPI document of the WebSocket routes, and a page to try them; imported by applications that have some."""
