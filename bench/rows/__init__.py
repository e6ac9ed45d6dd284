"""The rows of the table: each module measures some, with `measure(bench)`."""
