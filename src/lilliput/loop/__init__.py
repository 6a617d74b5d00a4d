"""A running task, without I/O: what is hidden, how sure is sure enough, and when a student has to step down."""
