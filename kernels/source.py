"""The program text of a tiling, put together from the files under `programs/`."""

import hashlib
from importlib import resources

from kernels.tiling import Form, Tiling

# OpenCL C 1.2 is what every platform has. No -cl-fast-relaxed-math: NaN and infinity must come out as in the reference.
OPTIONS = ("-cl-std=CL1.2",)


def program_source(tiling: Tiling) -> str:
    """OpenCL C with the kernels `dense_R` and `chain_R` for each row tile R, `softmax` and `argmax`."""
    defines = {
        "LANES": tiling.lanes,
        "PANEL": tiling.panel,
        "TILE_BLOCK": tiling.tile_block,
        "SOFTMAX_ROWS": tiling.softmax_rows,
        "SOFTMAX_ITEMS": tiling.softmax_items,
        "CHAIN_ITEMS": tiling.chain_items,
    }
    parts = [f"#define {name} {value}\n" for name, value in defines.items()]
    parts.append(_text("prelude.cl"))
    folder = tiling.form.value
    if tiling.form is Form.LANES:
        index = ", ".join(str(lane) for lane in range(tiling.lanes))
        parts.append(f"#define LANE_INDEX ((mask)({index}))\n")
        parts += [_with("SPACE", space, _text(f"{folder}/softmax_row.cl")) for space in ("global", "local")]
    parts.append(_text(f"{folder}/softmax.cl"))
    parts += [_with("ROWS", rows, _text(f"{folder}/dense.cl")) for rows in tiling.dense_rows]
    parts += [_with("ROWS", rows, _text(f"{folder}/chain.cl")) for rows in tiling.chain_rows]
    return "".join(parts)


def source_digest(source: str) -> str:
    """SHA-256 of the text and the build options, in hex."""
    return hashlib.sha256("\0".join((source, *OPTIONS)).encode()).hexdigest()


def _with(name: str, value: object, text: str) -> str:
    return f"#define {name} {value}\n{text}#undef {name}\n"


def _text(path: str) -> str:
    return resources.files("kernels").joinpath("programs", path).read_text(encoding="utf-8")
