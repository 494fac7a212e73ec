"""Bytes to requests and back. No socket, no clock."""
