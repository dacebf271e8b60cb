"""Release directories: what a reward is on disk, written durably and read with suspicion.

A release is a directory with `tensors.safetensors`, `manifest.json` and `CARD.md`. The manifest
states the SHA-256 of the other files; they are checked before anything is parsed. No code and no
pickle is ever loaded from a release.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import Tensor

import iirl_engine
from iirl_engine.chain import Step
from iirl_engine.corrections.restore import restore
from iirl_engine.counted import count
from iirl_engine.demonstrations import check, state_array
from iirl_engine.errors import ArtifactError, PluginError, Problem, UsageError, told
from iirl_engine.evidence import Judgement
from iirl_engine.formula import formula_of
from iirl_engine.layout import CARD, CHANNELS, MANIFEST, RELEASES, STABLE, TENSORS
from iirl_engine.options import build_options, dump_options
from iirl_engine.plugins import Plugins
from iirl_engine.records import Domain
from iirl_engine.registry import Registry, UnknownStrategy
from iirl_engine.reward import RewardModel
from iirl_engine.screening import Screening

FORMAT = 2


@attrs.frozen
class Provenance:
    """Where a release comes from.

    Parameters
    ----------
    number
        Its number in its run; 0 is the reward as learned.
    floor, seed
        Of the run.
    encoder, mapping, schedule, norms
        The steps of the chain that the reward is built from.
    data
        Fingerprint of the demonstrations as loaded.
    screening
        What the norms left of them.
    gates
        What the gates said of it.
    """

    number: int
    floor: float
    seed: int
    encoder: Step
    mapping: Step
    schedule: Step
    norms: tuple[Step, ...]
    data: str
    screening: Screening
    gates: tuple[Judgement, ...] = ()


def write_release(run: Path, model: RewardModel, provenance: Provenance) -> tuple[Path, str]:
    """Write a release under `run/releases`, whole or not at all.

    The files are written and synced under another name, then the directory is renamed.

    Returns
    -------
    The release directory and the SHA-256 of its manifest.
    """
    folder = run / RELEASES / f"{provenance.number:04d}"
    return folder, write_files(folder, model, _manifest(model, provenance))


def write_files(folder: Path, model: RewardModel, manifest: Mapping[str, Any]) -> str:
    """Write a release as a directory, and return the SHA-256 of its manifest.

    Parameters
    ----------
    folder
        Made, or replaced.
    model
        The reward.
    manifest
        What to say of it, but for `files`.
    """
    files = {
        TENSORS: save_tensors(formula_of(model).tensors),
        CARD: _card(model, manifest).encode(),
    }
    manifest = dict(manifest) | {
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    }
    files[MANIFEST] = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    draft = folder.with_name(f".{folder.name}.partial")
    for leftover in (draft, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    draft.mkdir(parents=True)
    for name, data in files.items():
        write_synced(draft / name, data)
    _sync_folder(draft)
    draft.rename(folder)
    _sync_folder(folder.parent)
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def load_release(
    path: str | Path, *, plugins: Plugins | None = None, manifest: str | None = None
) -> RewardModel:
    """Load a reward.

    Parameters
    ----------
    path
        A release directory, or a run directory for its stable release.
    plugins
        Plugins to build the reward's parts from; by default those installed.
    manifest
        SHA-256 that the release's manifest must have, where it is known.

    Raises
    ------
    ArtifactError
        When the release is missing, damaged or not what its manifest says.
    PluginError
        When a plugin that the reward is made of is not available.
    """
    folder = Path(path)
    if manifest is None and (folder / RELEASES).is_dir():
        folder, manifest = stable_folder(folder)
    body, tensors = _read(folder, manifest)
    registry = Registry(plugins or Plugins())
    try:
        model = _rebuild(body, tensors, registry)
        _check_whole(model, body, tensors)
        return model
    except (ArtifactError, PluginError):
        raise
    except (Exception, SystemExit) as error:
        raise ArtifactError(
            "the release does not hold what its manifest says", where=folder, got=told(error)
        ) from error


def release_folder(path: str | Path) -> Path:
    """Return the directory of a release, which is the stable one of a run directory.

    Raises
    ------
    ArtifactError
        When the run has no stable release, or it is not the one that the run names.
    """
    folder = Path(path)
    if not (folder / RELEASES).is_dir():
        return folder
    folder, manifest = stable_folder(folder)
    _read(folder, manifest)
    return folder


def promote(run: Path, number: int, manifest: str) -> None:
    """Make a release the run's stable one, atomically."""
    folder = run / CHANNELS
    folder.mkdir(exist_ok=True)
    body = json.dumps({"release": f"{number:04d}", "manifest": manifest}, indent=1) + "\n"
    write_synced(folder / STABLE, body.encode())
    _sync_folder(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a release's manifest, after its files were checked against it."""
    return _read(folder, None)[0]


def stable_folder(run: Path) -> tuple[Path, str]:
    """Return a run's stable release, and the SHA-256 that its manifest must have.

    Raises
    ------
    ArtifactError
        When the run has none, or its channel cannot be read.
    """
    pointer = run / CHANNELS / STABLE
    if not pointer.exists():
        raise ArtifactError(
            "this run has no stable release: none passed its gates",
            where=run,
            known=sorted(str(p) for p in (run / RELEASES).glob("[0-9]*")),
            next_step="name a release directory to load an unendorsed one",
        )
    try:
        body = _parsed(_bytes(pointer))
        number, manifest = str(body["release"]), str(body["manifest"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            "the stable channel cannot be read", where=pointer, got=error
        ) from error
    if not (number.isascii() and number.isdigit()):
        raise ArtifactError("the stable channel names no release", where=pointer, got=number)
    return run / RELEASES / number, manifest


def _read(folder: Path, expected: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a release's manifest and arrays, every hash checked before parsing."""
    body = _bytes(folder / MANIFEST)
    if expected is not None and hashlib.sha256(body).hexdigest() != expected:
        raise ArtifactError("the manifest is not the one the run names", where=folder)
    try:
        manifest = _parsed(body)
        version, files = manifest["format"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError("the manifest cannot be read", where=folder, got=error) from error
    if version != FORMAT:
        raise ArtifactError(
            "the release has another format",
            where=folder,
            got=version,
            known=[FORMAT],
            next_step="upgrade iirl-engine",
        )
    if set(files) != {TENSORS, CARD}:
        raise ArtifactError("the manifest names other files", where=folder, got=sorted(files))
    contents = {name: _bytes(folder / name) for name in files}
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != files[name]:
            raise ArtifactError(
                f"{name} was changed after the release was made",
                where=folder / name,
                next_step="restore the release from where it came from; do not use this one",
            )
    try:
        tensors = load_tensors(contents[TENSORS])
        _parsed(contents[TENSORS][8 : 8 + int.from_bytes(contents[TENSORS][:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError("the tensors cannot be read", where=folder, got=error) from error
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtifactError(f"tensor {name!r} holds NaN or Inf", where=folder / TENSORS)
    return manifest, tensors


def _rebuild(
    manifest: Mapping[str, Any], tensors: Mapping[str, Any], registry: Registry
) -> RewardModel:
    arrays = {name: array.copy() for name, array in tensors.items()}

    def under(prefix: str) -> dict[str, Any]:
        start = prefix + "."
        return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}

    def tensors_under(prefix: str) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array) for name, array in under(prefix).items()}

    demonstrations = check(
        arrays["demonstrations.states"],
        feature_names=_texts(manifest["features"]),
        domain=Domain(tuple(manifest["domain"]["low"]), tuple(manifest["domain"]["high"])),
        origin=_texts([manifest["origin"]])[0],
    )
    held_out = arrays["demonstrations.held_out"]
    if len(held_out):
        held_out = state_array(held_out, "held_out", demonstrations.origin)
        demonstrations = attrs.evolve(demonstrations, held_out=held_out)
    encoder = _strategy(registry, "encoder", manifest["encoder"])
    encoder.restore(tensors_under("encoder"), demonstrations)
    mapping = _strategy(registry, "mapping", manifest["mapping"])
    mapping.restore(tensors_under("mapping"))
    schedule = _strategy(registry, "schedule", manifest["schedule"])
    norms: dict[str, Any] = {}
    for entry in manifest["norms"]:
        norm = _strategy(registry, "norm", entry)
        norm.restore(tensors_under(f"norm.{entry['id']}"), demonstrations)
        (name,) = _texts([entry["id"]])
        if norms.setdefault(name, norm) is not norm:
            raise ValueError(f"two norms have the id {name!r}")
    corrections = [
        restore(entry, under(f"correction.{entry['id']}")) for entry in manifest["corrections"]
    ]
    domain = demonstrations.domain
    assert domain is not None
    return RewardModel(
        encoder,
        mapping,
        norms,
        demonstrations,
        domain,
        corrections,
        schedule,
        arrays["audit.probes"],
    )


def _check_whole(
    model: RewardModel, manifest: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Refuse a reward that cannot be evaluated, and tensors that are no part of it.

    Raises
    ------
    ValueError
        When tensors are left over; a part that cannot be evaluated raises what it likes.
    """
    for name in ("demonstrations.states", "demonstrations.held_out", "audit.probes"):
        if arrays[name].dtype != np.float64 or arrays[name].shape[1:] != (model.width,):
            raise ValueError(f"{name} must be float64 [n, {model.width}]")
    formula = formula_of(model)
    if strangers := sorted(set(arrays) ^ set(formula.tensors)):
        raise ValueError(f"tensors that do not belong here, or are missing: {strangers}")
    if manifest.get("formula", formula.parts) != formula.parts:
        raise ValueError("the manifest's formula is not that of the parts")
    some = torch.tensor(model.demonstrations.states[:2])
    with torch.no_grad():
        model.reward(some)
        model.violation(some)
        model.strength(some, torch.zeros(len(some), dtype=torch.float64))


def _texts(values: Any) -> list[str]:
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise TypeError(f"texts were expected, got {values!r}")
    return values


def _parsed(body: bytes) -> Any:
    """Return what JSON says; a key that is given twice could mean either, so it is refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is given twice")
        return found

    return json.loads(body, object_pairs_hook=unique)


def _strategy(registry: Registry, kind: str, entry: Mapping[str, Any]) -> Any:
    try:
        found = registry.find(kind, entry["use"])
    except UnknownStrategy as error:
        raise PluginError(
            f"the release needs {kind} {entry['use']!r}",
            got=error.message,
            next_step=error.hint,
        ) from error
    problems: list[Problem] = []
    options = build_options(found.offer.options, entry["options"], kind, problems, None)
    if options is None:
        raise PluginError(
            f"the release's {kind} does not fit the installed {found.dist} {found.version}",
            got="; ".join(map(str, problems)),
            next_step=f"pip install '{found.dist}=={entry['version']}'",
        )
    return found.build(options)


def _manifest(model: RewardModel, provenance: Provenance) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "engine": iirl_engine.__version__,
        "release": provenance.number,
        "seed": provenance.seed,
        "floor": provenance.floor,
        "data": provenance.data,
        "screening": provenance.screening.to_json(),
        "origin": model.demonstrations.origin,
        "features": list(model.demonstrations.feature_names),
        "domain": {"low": list(model.domain.low), "high": list(model.domain.high)},
        "encoder": _part(provenance.encoder),
        "mapping": _part(provenance.mapping),
        "schedule": _part(provenance.schedule),
        "norms": [_part(step) for step in provenance.norms],
        "formula": formula_of(model).parts,
        "corrections": [correction.describe() for correction in model.corrections],
        "gates": [attrs.asdict(g) | {"numbers": dict(g.numbers)} for g in provenance.gates],
    }


def _part(step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "use": step.entry.qualified,
        "version": step.entry.version,
        "options": dump_options(step.options),
    }


def _card(model: RewardModel, manifest: Mapping[str, Any]) -> str:
    screening = manifest["screening"]
    dropped = "".join(
        f"; {name} forbids {count:,}" for name, count in sorted(screening["dropped"].items())
    )
    lines = [
        f"# Reward model, release {manifest['release']:04d}",
        "",
        f"Learned from {count(len(model.demonstrations.states), 'expert state')} with "
        f"{count(model.width, 'feature')} ({model.demonstrations.origin or 'origin unknown'}).",
        "",
        *(f"- {part}: {manifest[part]['use']}" for part in ("encoder", "mapping", "schedule")),
        f"- norms: {', '.join(model.norms)}",
        f"- corrections: {sum(c.count for c in model.corrections):,}",
        f"- data: sha256 {manifest['data']}",
        f"- demonstrations: {screening['kept']:,} of {screening['loaded']:,} kept{dropped}",
        f"- probes: {count(len(model.probes), 'state')} that audits looked at",
        "",
        "A reward above the floor "
        f"{manifest['floor']:g} is an endorsement. Outside the audited domain the reward was "
        "not looked at.",
        "",
    ]
    if model.corrections:
        lines += [
            "| correction | kind | count | refiner | round | closes | approved |",
            "|---|---|---|---|---|---|---|",
        ]
        for c in model.corrections:
            closes = "unknown" if c.closes is None else f"{c.closes:,}"
            cells = (c.id, c.kind, f"{c.count:,}", c.refiner, c.round, closes)
            lines.append(f"| {' | '.join(map(str, cells))} | {c.approved or 'unknown'} |")
        lines.append("")
    if manifest["gates"]:
        lines += ["| gate | passed | numbers |", "|---|---|---|"]
        for gate in manifest["gates"]:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in gate["numbers"].items())
            lines.append(f"| {gate['gate']} | {'yes' if gate['ok'] else 'no'} | {numbers} |")
    elif "removed" in manifest:
        names = ", ".join(manifest["removed"]["corrections"])
        lines.append(f"Corrections were taken away: {names}. No gate judged what is left.")
    else:
        lines.append("This is the reward as learned: no audit and no gate stands behind it.")
    return "\n".join(lines) + "\n"


def _bytes(file: Path) -> bytes:
    try:
        if file.exists() and not file.is_file():  # reading a pipe or a device never ends
            raise OSError(errno.EINVAL, "no regular file")
        return file.read_bytes()
    except OSError as error:
        raise ArtifactError(
            "the release is incomplete" if file.parent.is_dir() else "there is no such release",
            where=file,
            got=error.strerror,
        ) from error


def make_room(file: Path) -> None:
    """Make the folder of a file, before the work is done that the file is to hold.

    Raises
    ------
    UsageError
        When that cannot be, or nothing can be written there.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(
            "the file cannot be written",
            where=file,
            got=error.strerror,
            next_step="name a file in a folder that you can write to",
        ) from error


def write_synced(file: Path, data: bytes) -> None:
    """Write a file durably: after a crash it holds its former content or the new one, whole."""
    draft = file.with_name(f".{file.name}.partial")
    with draft.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    draft.rename(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
