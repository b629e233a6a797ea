"""File jobs by HTTP. In: requests with a key. Out: records, progress and results of that key's jobs."""
