"""Write generated models, policies and requests with our answers to a file, for another language's Casbin to check:

python -m tests.decision.corpus corpus.json 300
NODE_PATH=<where npm's casbin is>/node_modules node tests/decision/corpus.cjs corpus.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from authz.decision.index import Index
from authz.decision.rules import ALLOW, Rules
from authz.policy.model import read_model
from tests.decision.generated import Example, examples
from tests.decision.stock import lines_of


def corpus(count: int) -> list[dict[str, Any]]:
    """``count`` examples that every Casbin reads alike, each with our answers."""
    found: dict[str, dict[str, Any]] = {}

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(examples(portable=True))
    def collect(example: Example) -> None:
        index = Index(Rules(read_model(example.model, "model"), lines_of(example.policy).rows()))
        answers = [index.decide(request)[0] == ALLOW for request in example.requests]
        case = {"model": example.model, "policy": example.policy, "requests": example.requests, "expected": answers}
        found[example.model + example.policy + str(example.requests)] = case

    collect()
    return list(found.values())


def main() -> None:
    """Write the corpus that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=300)
    options = parser.parse_args()
    options.file.write_text(json.dumps(corpus(options.count)))


if __name__ == "__main__":
    main()
