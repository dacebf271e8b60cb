"""The two kinds of file: how each is written from a traced program, and read back."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxscript import ir, opset20
from torch.export import ExportedProgram

Score = Callable[[NDArray[Any]], NDArray[Any]]

# Where the metadata lie in a .pt2 archive.
METADATA = "iirl.json"


@attrs.frozen
class Format:
    """A kind of file.

    Parameters
    ----------
    content
        From a traced program and metadata to the content of a file.
    read
        From a file to a function from states `[n, d]` to rewards `[n]`.
    """

    content: Callable[[ExportedProgram, Mapping[str, str]], bytes]
    read: Callable[[Path], Score]


def onnx_content(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX model from `states` to `reward`, with its metadata as metadata_props."""
    with _quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["states"],
            output_names=["reward"],
            dynamic_shapes=({0: "n"},),  # of a traced program it only takes the name
            verbose=False,
            custom_translation_table={torch.ops.aten.scalar_tensor.default: _scalar},
        )
    assert made is not None
    made.model.metadata_props.update(metadata)
    content: bytes = made.model_proto.SerializeToString()
    return content


def read_onnx(path: Path) -> Score:
    """Return the function that an ONNX model computes, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def score(states: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(session.run(["reward"], {"states": states})[0])

    return score


def torch_content(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Return a torch.export archive, with its metadata in the extra file `iirl.json`."""
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={METADATA: json.dumps(dict(metadata))})
    return archive.getvalue()


def read_torch(path: Path) -> Score:
    """Return the function that a torch.export archive computes."""
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def score(states: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(states)))

    return score


FORMATS = {
    "onnx": Format(onnx_content, read_onnx),
    "torch": Format(torch_content, read_torch),
}


def _scalar(
    s: float, dtype: int, layout: str = "", device: str = "", pin_memory: bool = False
) -> Any:
    """Translate a number of the program; torch's own translation rounds it to float32."""
    return opset20.Constant(
        value=onnx.numpy_helper.from_array(np.array(s, ir.DataType(dtype).numpy()))
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter says of itself from the user: nothing of it can be acted on."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
