"""A reward as a formula: plain data that can be bounded, and checked, without its code."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import PluginError, told
from iirl_engine.reward import RewardModel


@attrs.frozen(eq=False)
class Formula:
    """What a release states of a reward, as JSON and arrays.

    Encoder and mapping are those that were learned; a revision is a correction, with its own.

    Parameters
    ----------
    parts
        `loss`, the encoder's operations; `mapping`, one operation; `norms`, one for each id. None
        where a part declares no formula.
    corrections
        Entries of the manifest.
    domain
        `low` and `high`, one number for each feature.
    tensors
        Name -> array, as in a release.
    """

    parts: dict[str, Any]
    corrections: list[dict[str, Any]]
    domain: dict[str, list[float]]
    tensors: dict[str, NDArray[Any]]

    def fingerprints(self) -> dict[str, str]:
        """Return part -> SHA-256 of its formula and tensors.

        The parts are `demonstrations`, `domain`, `encoder`, `mapping`, each `norm.ID` and each
        `correction.ID`. What audits leave in a release, their probes, is no part of the reward.
        """
        stated: dict[str, Any] = {"demonstrations": None, "domain": self.domain}
        stated |= {"encoder": self.parts["loss"], "mapping": self.parts["mapping"]}
        stated |= {f"norm.{name}": told for name, told in self.parts["norms"].items()}
        stated |= {f"correction.{entry['id']}": entry for entry in self.corrections}
        digests = {
            name: hashlib.sha256(json.dumps(told, sort_keys=True).encode())
            for name, told in stated.items()
        }
        for name, array in sorted(self.tensors.items()):
            # The id of a norm or a correction holds no dot.
            words = name.split(".")
            part = ".".join(words[: 2 if words[0] in ("norm", "correction") else 1])
            if part in digests:
                digests[part].update(f"{name} {array.dtype} {array.shape}".encode())
                digests[part].update(np.ascontiguousarray(array).tobytes())
        return {name: digest.hexdigest() for name, digest in digests.items()}


def formula_of(model: RewardModel) -> Formula:
    """Return the formula of a reward.

    Raises
    ------
    PluginError
        When a part gives no plain tensors or declares what JSON cannot hold.
    """
    parts = {
        "loss": _declared("encoder", model.learned[0]),
        "mapping": _declared("mapping", model.learned[1]),
        "norms": {name: _declared(f"norm.{name}", norm) for name, norm in model.norms.items()},
    }
    return Formula(
        parts,
        [correction.describe() for correction in model.corrections],
        {"low": list(model.domain.low), "high": list(model.domain.high)},
        _tensors(model),
    )


def _tensors(model: RewardModel) -> dict[str, NDArray[Any]]:
    named: dict[str, Any] = {
        "demonstrations.states": model.demonstrations.states,
        "demonstrations.held_out": model.demonstrations.held_out,
        "audit.probes": model.probes,
    }
    encoder, mapping = model.learned
    named |= _arrays("encoder", encoder) | _arrays("mapping", mapping)
    for name, norm in model.norms.items():
        named |= _arrays(f"norm.{name}", norm)
    for correction in model.corrections:
        named |= {f"correction.{correction.id}.{n}": a for n, a in correction.tensors().items()}
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


def _arrays(name: str, part: Any) -> dict[str, Any]:
    try:
        return {f"{name}.{key}": tensor.numpy() for key, tensor in part.tensors().items()}
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{name} gives a release no plain tensors", where=type(part).__name__, got=told(error)
        ) from error


def _declared(name: str, part: Any) -> Any:
    try:
        return json.loads(json.dumps(part.formula(), allow_nan=False))
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{name} declares no formula that JSON can hold",
            where=type(part).__name__,
            got=told(error),
        ) from error
