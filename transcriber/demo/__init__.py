"""Everything on one machine: an embedded broker, the bundled model and the bundled speech."""
