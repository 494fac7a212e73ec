# mypy: disable-error-code="import-untyped,import-not-found"
"""As `django-admin startproject` makes it, but for the URLs, which Django would import in the first request."""

import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
import_module("shop.urls")
