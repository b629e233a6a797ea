"""Windows to text: the blocking side, behind a bounded queue."""
