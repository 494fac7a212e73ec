"""The admin, and pages that show what arrived."""

import hashlib
import json
import os
import sys

from django.contrib import admin
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def about(request):
    import django

    return JsonResponse({"django": django.get_version(), "python": sys.version_info[:2], "prefix": sys.prefix})


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


@csrf_exempt
def upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    return JsonResponse({"name": file.name, "size": file.size, "sha256": digest.hexdigest(), "pid": os.getpid()})


def stream(request):
    return StreamingHttpResponse((b"x" * 1000 for _ in range(100)), content_type="text/plain")


def show(request, rest=""):
    return HttpResponse(json.dumps({"path": request.path, "x": request.GET.get("x")}), content_type="application/json")


def fail(request):
    raise RuntimeError("a view that fails")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("about", about),
    path("visits", visits),
    path("upload", upload),
    path("stream", stream),
    path("fail", fail),
    path("", show),
    path("<path:rest>", show),
]
