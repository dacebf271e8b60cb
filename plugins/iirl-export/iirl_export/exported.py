"""A release as one file that needs neither the engine nor its plugins."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

import iirl_engine
from iirl_engine.errors import PluginError, UsageError, did_you_mean, told
from iirl_engine.layout import CHANNELS, MANIFEST, RELEASES, STABLE
from iirl_engine.release import load_release, read_manifest
from iirl_engine.reward import RewardModel
from iirl_export.formats import FORMATS
from iirl_export.parity import difference
from iirl_export.program import converted

TOLERANCES = {"float64": 1e-6, "float32": 1e-4}
_DTYPES = {"float64": torch.float64, "float32": torch.float32}
_NEXT_STEP = "try the other format, or score with iirl_engine.load_release"


@attrs.frozen
class Exported:
    """A file that was written, and how it compares with the model.

    Parameters
    ----------
    path
        The file.
    format
        `onnx` or `torch`.
    dtype
        Of its states and rewards: `float64` or `float32`.
    manifest
        SHA-256 of the release's manifest, which the file holds too; None for a model that was
        given without its release.
    size
        Bytes.
    states
        How many states were compared.
    difference
        Largest absolute difference from the model's reward.
    tolerance
        Largest difference that is allowed.
    """

    path: Path
    format: str
    dtype: str
    manifest: str | None
    size: int
    states: int
    difference: float
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """Return the documented object that `iirl export --json` prints."""
        return attrs.asdict(self) | {"path": str(self.path)}


def export(
    reward: RewardModel | str | Path,
    path: str | Path,
    format: str = "onnx",
    *,
    dtype: str = "float64",
) -> Exported:
    """Write a reward as one file, after comparing that file with the model.

    The file computes R(s), what `RewardModel.__call__` answers without a time: encoder, mapping
    and corrections, and reward 0 for states with NaN or Inf. Input `states [n, d]`, output
    `reward [n]`, any n. It is written under another name, read back and compared; `path` only
    appears, or is replaced, when every difference is within the tolerance.

    Parameters
    ----------
    reward
        A model, a release directory, or a run directory for its stable release.
    path
        The file to write.
    format
        `onnx`, for ONNX runtimes; `torch`, a torch.export archive, usually named .pt2.
    dtype
        `float64`, tolerance 1e-6, or `float32`, tolerance 1e-4: of states and rewards. It
        computes in float64 either way.

    Raises
    ------
    UsageError
        When a part of the reward cannot be traced, or an argument is none of those above.
    PluginError
        When the file cannot be run, or does not agree with the model.
    ArtifactError
        When the release is missing or damaged.
    """
    for name, value, known in (("format", format, FORMATS), ("dtype", dtype, _DTYPES)):
        if value not in known:
            hint = did_you_mean(value, known)
            raise UsageError(f"{name} is unknown", got=value, known=known, next_step=hint)
    path = Path(path)
    if not path.parent.is_dir():
        raise UsageError("there is no such directory", where=path.parent)
    model, manifest = (reward, None) if isinstance(reward, RewardModel) else _released(reward)
    kind, tolerance = FORMATS[format], TOLERANCES[dtype]
    metadata = _metadata(model, manifest, dtype)
    content = converted(model, _DTYPES[dtype], lambda program: kind.content(program, metadata))
    draft = path.with_name(f".{path.name}.partial")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        apart, states = _compared(model, draft, format, dtype)
        if apart > tolerance:
            raise PluginError(
                f"the {format} file does not compute the reward; it was removed",
                where=path,
                got=f"a difference of {apart:g} on {states} states",
                known=[f"at most {tolerance:g}"],
                next_step=_NEXT_STEP,
            )
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(path, format, dtype, manifest, len(content), states, apart, tolerance)


def _released(path: str | Path) -> tuple[RewardModel, str]:
    """Return the model of a release or run directory, and the SHA-256 of its manifest."""
    folder = Path(path)
    if (folder / RELEASES).is_dir():
        load_release(folder)  # says what is wrong with a run that has no stable release
        stable = json.loads((folder / CHANNELS / STABLE).read_bytes())
        folder = folder / RELEASES / stable["release"]
    read_manifest(folder)  # says what is wrong with a release
    manifest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    return load_release(folder, manifest=manifest), manifest


def _compared(model: RewardModel, file: Path, format: str, dtype: str) -> tuple[float, int]:
    """Return how far a file is from the model, and on how many states they were compared."""
    try:
        score = FORMATS[format].read(file)
        return difference(model, score, np.dtype(dtype))
    except Exception as error:
        raise PluginError(
            f"the {format} file cannot be read back or run; it was removed",
            where=file,
            got=told(error),
            next_step=_NEXT_STEP,
        ) from error


def _metadata(model: RewardModel, manifest: str | None, dtype: str) -> dict[str, str]:
    """Return what a file says of itself."""
    return {
        "iirl.engine": iirl_engine.__version__,
        "iirl.manifest": manifest or "",
        "iirl.features": json.dumps(list(model.demonstrations.feature_names)),
        "iirl.dtype": dtype,
    }
