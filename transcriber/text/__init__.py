"""Messages to text for people: captions, subtitles, results. Pure, as ``audio`` is."""
