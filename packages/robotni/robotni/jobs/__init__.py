"""What a job is: its record, its states, the request for it, how it ends. No I/O, no clock."""
