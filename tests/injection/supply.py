"""What a handler is given, without a server."""


async def supply(arguments, hooks, state):
    """Run the hooks and the components, and return the arguments that these supply."""
    plan = arguments.plan(hooks)
    await plan.run(hooks, state)
    return arguments.resolved(plan, state)
