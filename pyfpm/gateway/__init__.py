"""A decoded request to WSGI (PEP 3333) and back."""
