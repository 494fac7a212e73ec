# mypy: disable-error-code="import-untyped,import-not-found"
"""One view for every path; the admin makes the import as heavy as it is in real projects."""

import time

from django.contrib import admin
from django.http import HttpResponse
from django.urls import path, re_path

from shop import generation


def front_page(_request):  # type: ignore[no-untyped-def]
    time.sleep(generation.SECONDS)  # the database that a benchmark has not
    return HttpResponse(f"{generation.WORD}: hello, world\n", content_type="text/plain")


urlpatterns = [path("admin/", admin.site.urls), re_path("", front_page)]
