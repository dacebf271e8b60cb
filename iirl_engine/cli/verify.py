"""`iirl verify`: whether a release is whole, and whether a certificate of it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from iirl_engine.errors import ArtifactError


@click.command()
@click.argument("release", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--certificate",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Check this certificate of the release, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(release: Path, certificate: Path | None, as_json: bool) -> None:
    """Check RELEASE, a release or run directory, against its own hashes; exit 3 when refused.

    With a certificate, every leaf of it is bounded anew, by code that shares nothing with
    what proved it.
    """
    from iirl_engine.counted import count
    from iirl_engine.layout import MANIFEST, TENSORS
    from iirl_engine.release import load_release, release_folder

    folder = release_folder(release)
    load_release(folder)
    claim = None
    if certificate is not None:
        from iirl_engine.certificate import Refused, check

        manifest, said = (folder / MANIFEST).read_bytes(), certificate.read_bytes()
        try:
            check(manifest, (folder / TENSORS).read_bytes(), said)
        except Refused as error:
            raise ArtifactError(
                "the certificate is refused",
                where=certificate,
                got=_why(error),
                next_step="certify this release anew: iirl certify, of the plugin iirl-certify",
            ) from error
        claim = _claimed(json.loads(manifest), json.loads(said))
    if as_json:
        click.echo(json.dumps({"release": str(folder), "certificate": claim}, indent=1))
        return
    click.echo(f"release:     {folder}: its files are those of its manifest, and it can be loaded")
    if claim is None:
        click.echo("certificate: none was given; nothing is proved of the reward")
        return
    what = "the whole domain" if claim["whole_domain"] else count(claim["regions"], "region")
    leaves = "1 leaf" if claim["leaves"] == 1 else f"{claim['leaves']:,} leaves"
    click.echo(f"certificate: holds for {what}; re-checked in {leaves}")
    click.echo(
        f"proved:      reward at most {claim['floor']:g} wherever a norm forbids "
        f"({', '.join(claim['norms'])}; support from {claim['margin']:g} beyond its boundary)"
    )


def _why(refused: Exception) -> object:
    """Return why a certificate is refused, in words where its JSON cannot be read."""
    if isinstance(refused.__cause__, json.JSONDecodeError | UnicodeDecodeError):
        return "the file is not the JSON of a certificate: it is empty, cut off, or another file"
    return refused


def _claimed(manifest: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Return what a certificate that holds says of the release with this manifest."""
    trees = [region["tree"] for region in said["regions"]]
    return {
        "release": said["release"],
        "floor": manifest["floor"],
        "margin": said["margin"],
        "norms": list(manifest["formula"]["norms"]),
        "whole_domain": any(set(region) == {"tree"} for region in said["regions"]),
        "regions": len(trees),
        "leaves": sum(tree.count("0") for tree in trees),
    }
