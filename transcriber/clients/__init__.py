"""The client commands: publish audio, listen to transcripts, transcribe files, and manage jobs, over the bus."""
