"""Text to frozen settings."""
