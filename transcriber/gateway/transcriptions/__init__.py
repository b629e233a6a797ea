"""OpenAI's transcription API. In: uploads. Out: text, from a request or a job."""
