"""Join the two pictures of a run's report into one: `python docs/images/join.py REPORT PNG`.

`docs/images/figure1.png` and `pointmaze.png` come from the reports that `make demo` writes.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
from matplotlib.image import imread, imsave


def joined(page: str) -> bytes:
    """Return the pictures of a report, left to right, as one PNG."""
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    pictures = [imread(io.BytesIO(base64.b64decode(text))) for text in found]
    buffer = io.BytesIO()
    imsave(
        buffer,
        np.concatenate([picture[..., :3] for picture in pictures], axis=1),
        format="png",
        metadata={"Software": None},
        pil_kwargs={"optimize": True},
    )
    return buffer.getvalue()


if __name__ == "__main__":
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    Path(sys.argv[2]).write_bytes(joined(page))
