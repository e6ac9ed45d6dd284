"""The machine: data directory, locks, wake-up, files and processes."""
