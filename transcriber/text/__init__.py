"""Messages to what people read: captions, results, who said what. Pure, as ``audio`` is."""
