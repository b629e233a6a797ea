"""A model in a child process of the daemon, so that what ends the process around the model ends no daemon."""
