"""A Flask application: forms, uploads, sessions in cookies, a streamed answer, an error."""

import hashlib
import os
import sys
from importlib.metadata import version

from flask import Flask, Response, jsonify, request, session

app = Flask(__name__)
app.secret_key = "only for tests"


@app.get("/about")
def about():
    return jsonify(flask=version("flask"), python=sys.version_info[:2], prefix=sys.prefix)


@app.get("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@app.post("/upload")
def upload():
    data = request.files["file"].read()
    return jsonify(size=len(data), sha256=hashlib.sha256(data).hexdigest(), pid=os.getpid())


@app.get("/stream")
def stream():
    return Response((b"x" * 1000 for _ in range(100)), mimetype="text/plain")


@app.get("/fail")
def fail():
    raise RuntimeError("a view that fails")


@app.get("/", defaults={"rest": ""})
@app.get("/<path:rest>")
def show(rest):
    return jsonify(path=request.path, x=request.args.get("x"), root=request.script_root)
