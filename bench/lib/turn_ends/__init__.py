"""Whether a sentence is complete where speech pauses, and what a daemon would gain by knowing."""
