"""The daemon's side of admin requests, and what they do."""
