"""What crosses the bus, as plain data: messages, checkpoints, file jobs, subjects, languages, arrival times. No I/O."""
