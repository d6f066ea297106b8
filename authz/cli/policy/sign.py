"""``authz policy sign``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from authz.admin.sign import new_key, sign, verify
from authz.cli.policy.shown import add_format, print_json, usage


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = (
        "examples:\n"
        "  authz policy sign --new-key policy-key.pem\n"
        "  authz policy sign policies/shop --key policy-key.pem\n"
        "  authz policy sign policies/shop --verify policy-key.pub.pem\n\n"
        "A server refuses what is not signed if its configuration says `policy: {require_signature: [FILE]}`.\n\n"
        "exit codes: 0 signed, 4 it is not, or a file cannot be used"
    )
    parser.add_argument("bundle", nargs="?", help="the bundle's folder")
    parser.add_argument("--key", metavar="FILE", help="sign with this private key")
    parser.add_argument("--verify", metavar="FILE", action="append", help="a public key that must have signed it")
    parser.add_argument("--new-key", metavar="FILE", help="make a private key here, and the public one beside it")
    add_format(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Run the command."""
    if options.new_key:
        private, public = new_key(Path(options.new_key))
        if options.format == "json":
            print_json({"private": str(private), "public": str(public)})
        else:
            print(f"keep {private} to yourself; servers get {public}")
        return 0
    if not options.bundle or bool(options.key) == bool(options.verify):
        return usage("write BUNDLE and one of --key and --verify, or --new-key FILE")
    bundle = Path(options.bundle)
    if options.key:
        file = sign(bundle, Path(options.key))
        if options.format == "json":
            print_json({"signature": str(file)})
        else:
            print(f"signed: {file}")
        return 0
    found = verify(bundle, [Path(key) for key in options.verify])
    if options.format == "json":
        print_json({"revision": found.revision, "key": found.signer.id, "key_file": str(found.signer.path)})
    else:
        print(f"revision {found.revision[:12]} is signed by {found.signer.id} ({found.signer.path})")
    return 0
