"""What the scoreboards say, for people and for programs."""
