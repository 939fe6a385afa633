from stores import one_thread  # noqa: F401
