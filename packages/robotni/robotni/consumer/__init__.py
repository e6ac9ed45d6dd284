"""The worker process: it claims, launches, completes, recovers and maintains jobs."""
