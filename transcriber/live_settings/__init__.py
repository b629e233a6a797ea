"""Settings that change while a daemon runs: from a bucket or a file to its streams."""
