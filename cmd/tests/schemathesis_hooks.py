"""Keeps two answers that are right out of the fuzzer's way.

An answer asked for sooner than it can be had is a 504. An Idempotency-Key that was sent before is a 422 whatever else is
wrong with the request, which would hide that: each case gets a key of its own. Both have tests of their own elsewhere.
"""
import itertools
import re

import schemathesis

NUMBERS = itertools.count(100000)
# As in the OpenAPI document; a key that is none stays as it is.
KEY = re.compile(r'(?!""\Z)([!-~]{1,255}|"[!-~]{254,255}")\Z')


@schemathesis.hook
def filter_case(context, case):
    text = (case.headers or {}).get("Request-Timeout")
    try:
        return not 0 < float(text) < 1
    except (TypeError, ValueError):
        return True


@schemathesis.hook
def before_call(context, case, kwargs):
    key = (case.headers or {}).get("Idempotency-Key")
    if not isinstance(key, str) or not KEY.match(key):
        return
    number = str(next(NUMBERS))
    start = 1 if key.startswith('"') else 0
    # A long key keeps its length, at which something may break.
    rest = key if len(key) <= 200 else key[start + len(number) :]
    case.headers["Idempotency-Key"] = number + rest if len(key) <= 200 else key[:start] + number + rest
