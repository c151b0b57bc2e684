"""The size that weights could have: a codebook of their values, and a code for what points into it.

Of m weights with d different values of b bytes each, of which value i occurs m_i times:

  entropy_bytes = d b + m H / 8,   H = - sum over i of (m_i / m) log2(m_i / m)
  huffman_bytes = d b + sum over i of m_i l_i / 8,   l_i the length of value i in Huffman's code

where values that occur once, as nearly all of float32 do, share one symbol that says so, and never
more than the m b bytes that they have as they are. H is the order-0 entropy (Shannon 1948): no code
of single weights is shorter, and Huffman's (1952), which Deep Compression uses (Han, Mao & Dally
2015, arXiv 1510.00149), is longer by less than a bit a weight. The values of a byte need no
codebook.
"""

import heapq
import math
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

# If among so many weights, spread over the kernel, no value occurs twice, a code gains nothing.
_SAMPLE = 1 << 16

# What has a type of NumPy's own; the rest is coded by the byte.
_NUMBERS = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint16", "uint32", "uint64"),
)


class Coded(NamedTuple):
    """Bytes of an array, coded."""

    entropy_bytes: int
    huffman_bytes: int


def coded(array: np.ndarray) -> Coded:
    """Returns the bytes of an array of numbers, rounded up."""
    raw = array.nbytes
    counts = _counts(array)
    if counts is None:
        return Coded(raw, raw)
    book = len(counts) * array.itemsize if array.itemsize > 1 else 0
    if book and (single := counts == 1).any():
        counts = np.append(counts[~single], single.sum())
    bits = float(counts @ np.log2(array.size / counts)), huffman_bits(counts)
    return Coded(*(min(raw, book + math.ceil(b / 8)) for b in bits))


def huffman_bits(counts: np.ndarray) -> int:
    """Returns how long Huffman's code makes a text whose symbols occur `counts` times, in bits.

    The tree is built from its leaves, always from the two rarest nodes, and each node costs one
    bit for each occurrence below it. Nodes that are equally rare are paired all at once.
    """
    nodes = Counter(counts.tolist())
    heap = list(nodes)
    heapq.heapify(heap)
    bits = 0

    def add(count: int, times: int) -> None:
        nonlocal bits
        if not nodes[count]:
            heapq.heappush(heap, count)
        nodes[count] += times
        bits += count * times

    while heap:
        rarest = heapq.heappop(heap)
        pairs, single = divmod(nodes.pop(rarest), 2)
        if pairs:
            add(2 * rarest, pairs)
        if single and heap:
            next_rarest = heap[0]
            nodes[next_rarest] -= 1
            if not nodes[next_rarest]:
                heapq.heappop(heap)
            add(rarest + next_rarest, 1)
    return bits


def _counts(array: np.ndarray) -> np.ndarray | None:
    """Returns how often each value occurs, None if they are too many for a code."""
    flat = array.ravel()
    sample = np.sort(flat[:: max(1, flat.size // _SAMPLE)])
    if flat.itemsize > 1 and not (sample[1:] == sample[:-1]).any():
        return None
    ordered = np.sort(flat)
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    return np.diff(ends, prepend=-1)


def of_file(path: str | os.PathLike) -> Coded:
    """Returns the bytes of all constant tensors of a .tflite file, coded, of the types they have.

    Tensors stored without their zeros count with them, so that files of the same weights have the
    same bound; int4 is coded by the byte.

    Raises:
      OSError: if the file can't be read.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
    tensors = {}
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        for j in range(graph.TensorsLength()):
            tensors[graph.Tensors(j).Buffer()] = graph.Tensors(j)
    numbers = {getattr(schema.TensorType, name.upper()): name for name in _NUMBERS}
    found = []
    for index, tensor in tensors.items():
        data = model.Buffers(index).DataAsNumpy()
        if isinstance(data, np.ndarray):
            values = data.view(numbers.get(tensor.Type(), "uint8"))
            if tensor.Sparsity() is not None:
                size = int(np.prod(tensor.ShapeAsNumpy(), dtype=np.int64))
                values = np.concatenate([values, np.zeros(size - values.size, values.dtype)])
            found.append(coded(values))
    return Coded(*np.sum(found, axis=0, dtype=int).tolist()) if found else Coded(0, 0)
