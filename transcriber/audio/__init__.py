"""Bytes to windows. Pure: no I/O, no clock, no threads, no logging."""
