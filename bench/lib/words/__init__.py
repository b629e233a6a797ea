"""Words said beside words heard: which are wrong, where, and how late they came."""
