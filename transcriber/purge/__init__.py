"""``transcriber purge``: removes what is stored of a stream, of one of its sessions, or of a file's job."""
