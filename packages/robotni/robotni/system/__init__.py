"""The machine: the data directory, locks, wake-up, files and processes."""
