"""The limit of open files, which a few thousand connections are beyond on many systems."""

#: Enough for five thousand connections.
FILES = 8192


def raise_file_limit() -> None:
    """Allow this process as many open files as the benchmark needs, where the system has such a limit."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
