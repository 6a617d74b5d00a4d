"""Making students, offline: each stage is a function, a run is a directory. Needs the extra `studio`."""
