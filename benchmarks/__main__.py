"""Run the benchmarks: `python -m benchmarks` for all of them, or the names of some.

Each prints its table and writes it to benchmarks/results/. Numbers are of the machine that they were measured on; only
numbers of one run may be compared.
"""

from __future__ import annotations

import argparse
import importlib

BENCHMARKS = {
    "admin": "what a policy admin waits for: check, diff, matrix, and the start of a command",
    "authn": "tokens and certificates, beside PyJWT",
    "decision": "one decision beside pycasbin, Cedar and OPA (pip install '.[bench]'), 100 to 100,000 rules",
    "memory": "what ten million unknown callers and namespaces leave behind",
    "audit": "a record, beside stdlib logging; group commit; verification; questions to ten million records",
    "reload": "decisions while a policy of ten thousand rules is reloaded 200 times",
    "soak": "a server at full load while policies reload, keys rotate and tokens expire (ten minutes)",
    "interceptor": "a server with the interceptor beside none, one that does nothing, and the best alternative",
    "proxy": "the proxy and ext_authz beside direct calls, a naive proxy and Envoy",
}


def main() -> None:
    """Run what is named on the command line."""
    listing = "\n".join(f"  {name:<12} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=f"{__doc__}\n{listing}", formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", nargs="*", help="default: all")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    options = parser.parse_args()
    for name in options.name or BENCHMARKS:
        print(f"== {name}: {BENCHMARKS[name]}")
        importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)


if __name__ == "__main__":
    main()
