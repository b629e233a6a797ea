"""What several benches share. In: a daemon, a broker, recordings. Out: streams in real time, and what became of them."""
