"""The AsyncAPI document of an application's WebSocket routes, and a page to try them; imported when it is needed."""
