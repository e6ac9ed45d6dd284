"""The database and the files of a run; all SQL."""
