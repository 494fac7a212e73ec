"""A Django project with the admin and sessions in SQLite."""
