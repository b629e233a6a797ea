"""Audio files of any kind, by FFmpeg, with what FFmpeg gets wrong put right. Blocks: decoder threads only."""
