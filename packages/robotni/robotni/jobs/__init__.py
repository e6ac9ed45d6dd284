"""What a job is: its record, states, requests and how a run ends. No I/O and no clock."""
