"""Who asks: client certificates, tokens of several kinds, and users who speak for others."""
