"""What every correction is: an id, where it comes from, and what it takes off the reward."""

from __future__ import annotations

import abc
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
# A tensor, or what computes it when it is first asked for.
Given = Tensor | Callable[[], Tensor]


def copied(given: Any) -> Array:
    """Return numbers as a closed float64 copy, so that nobody can change them later."""
    array = np.array(given)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"a correction's arrays must hold numbers, got {array.dtype}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    array.setflags(write=False)
    return array


def _check_id(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # A release names a correction's tensors by its id: a dot in it would be ambiguous.
    if not (isinstance(value, str) and re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", value)):
        raise ValueError(f"{attribute.name} must be letters, digits, - and _, got {value!r}")


def _check_type(kind: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not kind:
            raise ValueError(f"{attribute.name} must be {kind.__name__}, got {value!r}")

    return check


class View:
    """What a correction may look at; what costs is computed when it is first asked for.

    Parameters
    ----------
    states
        `[n, d]` finite, float64.
    base
        `[n]` reward before corrections.
    loss
        `[n]` expertness loss L.
    features
        `[n, z]` the encoder's representation.
    violations
        Norm id -> violation `[n]`.
    """

    def __init__(
        self,
        states: Tensor,
        base: Given | None = None,
        *,
        loss: Given | None = None,
        features: Given | None = None,
        violations: Mapping[str, Given] | None = None,
    ) -> None:
        self.states = states
        self._given = {"base": base, "loss": loss, "features": features}
        self.violations: Mapping[str, Tensor] = _Lazily(violations or {})

    @functools.cached_property
    def base(self) -> Tensor:
        """Reward before corrections, `[n]`."""
        return self._asked("base")

    @functools.cached_property
    def loss(self) -> Tensor:
        """Expertness loss, `[n]`."""
        return self._asked("loss")

    @functools.cached_property
    def features(self) -> Tensor:
        """The encoder's representation, `[n, z]`."""
        return self._asked("features")

    def _asked(self, name: str) -> Tensor:
        given = self._given[name]
        if given is None:
            raise ValueError(f"a correction looks at the {name}, which this view does not give")
        return given if isinstance(given, Tensor) else given()


class _Lazily(Mapping[str, Tensor]):
    """A mapping whose values are computed when they are first asked for."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self._given, self._found = given, dict[str, Tensor]()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._found:
            given = self._given[name]
            self._found[name] = given if isinstance(given, Tensor) else given()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


@attrs.frozen(eq=False, kw_only=True)
class Correction(abc.ABC):
    """One entry in a reward's list of corrections.

    Parameters
    ----------
    id
        Unique in a release, such as `r1-kernel-lp`: letters, digits, `-` and `_`.
    refiner
        Id of the step of the chain that proposed it.
    round
        Round that added it.
    closes
        How many of the flaws then open it closed by itself; None where nobody counted.
    approved
        Who approved it, such as `auto`; None where that is unknown.
    """

    id: str = attrs.field(validator=_check_id)
    refiner: str = attrs.field(validator=_check_type(str))
    round: int = attrs.field(validator=_check_type(int))
    closes: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_type(int))
    )
    approved: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_type(str))
    )

    kind: ClassVar[str]

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many corrections this entry stands for."""

    @abc.abstractmethod
    def suppression(self, view: View) -> Tensor:
        """Return what is taken off the base reward, `[n]`; below 0 where a correction lifts it."""

    def silences(self, view: View) -> Tensor | None:
        """Return where it provably takes the whole base reward, whatever that is, `[n]`.

        It looks at states and violations alone, so that the encoder need not be asked. None, the
        default, says nowhere.
        """
        return None

    def lifts(self) -> bool:
        """Say whether `suppression` may be below 0; by default it never is."""
        return False

    def effects(self, view: View) -> Tensor:
        """Return what each of its parts takes off the base reward, `[n, parts]`.

        Its parts are those that `take` can leave out; by default it is one.
        """
        return self.suppression(view)[:, None]

    def take(self, parts: NDArray[np.int64]) -> Self:
        """Return it with some of its parts alone, by number."""
        return self

    def norms(self) -> tuple[str, ...]:
        """Return the ids of the norms that `suppression` looks at."""
        return ()

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that a release stores."""
        return {}

    @classmethod
    def restored(cls, fields: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Correction:
        """Return the correction that has these fields, and arrays as `tensors` returns them.

        Raises
        ------
        ValueError, KeyError, TypeError
            When there is none.
        """
        for name, array in tensors.items():
            if array.dtype != np.float64:
                raise ValueError(f"{name} must be float64, got {array.dtype}")
        return cls(**dict(fields) | dict(tensors))

    @abc.abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Return the parameters that a release's manifest states."""

    def describe(self) -> dict[str, Any]:
        """Return the manifest's entry; what is unknown of where it comes from is left out."""
        entry: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "refiner": self.refiner,
            "round": self.round,
            "count": self.count,
        }
        known = {"closes": self.closes, "approved": self.approved}
        return entry | {k: v for k, v in known.items() if v is not None} | self.numbers()
