"""The `robotni` command."""
