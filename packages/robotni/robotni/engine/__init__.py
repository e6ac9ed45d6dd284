"""What a client may ask for: submit, get, list, cancel, retry, status."""
