"""Files: jobs on recordings of any length in the object store. Event loop only, but for decoding."""
