"""Renders templates with Jinja2, for the tests that compare with it.

Reads lines of JSON, {"templates": {name: text}, "name": ..., "params": {...}},
and answers each with a line: {"text": ...} or {"error": class, "message": ...}.
"""

import json
import resource
import signal
import sys

import yaml
from jinja2 import DictLoader, Environment


def kci_raise(msg):
    raise Exception(msg)


def kci_yaml_dump(data):
    return yaml.dump(data, indent=2)


def render(job):
    if "yaml" in job:
        # KernelCI's own loader runs what a tag asks for; this one does not, and is the same else.
        return yaml.dump(yaml.load(job["yaml"], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    env = Environment(loader=DictLoader(job["templates"]), extensions=["jinja2.ext.do"])
    env.globals.update(kci_raise=kci_raise, kci_yaml_dump=kci_yaml_dump)
    return env.get_template(job["name"]).render(job["params"])


def answer(job):
    try:
        text = render(job)
        text.encode()
        return {"text": text}
    except RecursionError as exc:
        return {"error": "RecursionError", "message": str(exc)[:300]}
    except Exception as exc:
        return {"error": type(exc).__name__, "message": str(exc)[:300]}


def give_up(*_):
    raise TimeoutError


# What chance makes may take all memory, or forever.
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
signal.signal(signal.SIGALRM, give_up)

for line in sys.stdin:
    signal.alarm(10)
    print(json.dumps(answer(json.loads(line))), flush=True)
