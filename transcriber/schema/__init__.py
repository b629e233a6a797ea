"""What crosses the bus, as plain data: messages, file jobs, languages, and when a payload came. No I/O."""
