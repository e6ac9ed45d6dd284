"""HTTP: the app, its security, routes and page; starts the worker on demand."""
