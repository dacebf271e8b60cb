"""Demonstrations from files: `npz` and `csv`."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iirl_engine.api import Context, Source
from iirl_engine.builtin.options import CsvOptions, NpzOptions
from iirl_engine.demonstrations import check
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

_ARRAYS = (
    "states",
    "t",
    "episode",
    "negatives",
    "known_good",
    "feature_names",
    "weights",
    "negative_weights",
)


class Npz(Source[NpzOptions]):
    """Reads a NumPy `.npz` file; pickled content is refused."""

    def load(self, context: Context) -> Demonstrations:
        path = Path(self.options.path)
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files if name in _ARRAYS}
                others = [name for name in file.files if name not in _ARRAYS]
        except Exception as error:  # a damaged file breaks its reader in many ways
            raise DataError(
                "the file is no NumPy .npz of plain arrays", where=path, got=error
            ) from error
        if "states" not in arrays:
            raise DataError(
                "the file has no array 'states'",
                where=path,
                got=others,
                known=_ARRAYS,
                next_step="save it as np.savez(path, states=states)",
            )
        names = arrays.pop("feature_names", None)
        return check(
            arrays.pop("states"),
            feature_names=None if names is None else [str(name) for name in np.ravel(names)],
            origin=str(path),
            **arrays,
        )


class Csv(Source[CsvOptions]):
    """Reads a comma-separated file: one named column per feature, one line per state."""

    def load(self, context: Context) -> Demonstrations:
        path = Path(self.options.path)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                lines = [(reader.line_num, row) for row in reader if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError("the file is no UTF-8 text", where=path, got=error) from error
        if not lines:
            raise DataError("the file is empty", where=path)
        header, table = [name.strip() for name in lines[0][1]], lines[1:]
        if header and all(_is_number(name) for name in header):
            raise DataError(
                "the first line must name the features",
                where=path,
                got=", ".join(header[:5]),
                next_step="put a line such as x,y,speed on top",
            )
        if not table:
            raise DataError(
                "the file has a header and no rows",
                where=path,
                got=", ".join(header[:5]),
                next_step="write one line per state below the header",
            )
        for number, row in table:
            if len(row) != len(header):
                raise DataError(
                    f"line {number} has {len(row)} values, the first line names {len(header)}",
                    where=path,
                )
        values = np.array([_numbers(row, header, number, path) for number, row in table])
        columns = {name: values[:, i] for i, name in enumerate(header)}
        t = self._column(columns, "t", self.options.t, path)
        episode = self._column(columns, "episode", self.options.episode, path)
        if self.options.episode is None and "episode" in header:
            log.warning(
                "column 'episode' of %s is taken for a feature; source.episode = \"episode\" makes "
                "it the number of the episode",
                path,
            )
        used = {self.options.t, self.options.episode}
        kept = [i for i, name in enumerate(header) if name not in used]
        return check(
            values[:, kept],
            feature_names=[header[i] for i in kept],
            origin=str(path),
            t=t,
            episode=episode,
        )

    def _column(
        self, columns: dict[str, Array], role: str, name: str | None, path: Path
    ) -> Array | None:
        if name is None:
            return None
        if name not in columns:
            raise DataError(f"no column {name!r} for {role}", where=path, known=columns)
        return columns[name]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(row: list[str], header: list[str], line: int, path: Path) -> list[float]:
    try:
        values = [float(text) for text in row]
    except ValueError:
        name, text = next((n, t) for n, t in zip(header, row, strict=True) if not _is_number(t))
        raise DataError(
            f"line {line}, column {name!r} holds no number", where=path, got=repr(text)
        ) from None
    for name, value in zip(header, values, strict=True):
        if not math.isfinite(value):
            raise DataError(
                f"line {line}, column {name!r} holds NaN or Inf",
                where=path,
                got=value,
                next_step="drop or repair such lines; the engine never fills in values",
            )
    return values
