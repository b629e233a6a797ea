"""Words said beside words transcribed: which are wrong, where, and how late they came."""
