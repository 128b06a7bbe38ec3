"""What a handler is given, without a server."""


async def supply(arguments, hooks, state):
    """Run the hooks and the components, and return the arguments that these supply."""
    await arguments.plan(hooks).run(hooks, state)
    return arguments.resolved(hooks, state)
