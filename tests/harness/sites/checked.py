"""apps.py under the standard library's validator, which raises when server or application break PEP 3333."""

from wsgiref.validate import validator

import apps

application = validator(apps.application)
