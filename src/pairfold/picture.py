"""A formula's graph as a small SVG picture: layered, leaves on top, every edge downwards. Knows no notebook and needs no library."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape

from .formula.graph import PAIR, I, J, Node, to_string, topological

MOST_NODES = 80  # beyond this nobody reads it
FILLS = {I: "#cfe3ff", J: "#ffe2bd", 0: "#e6e6e6", PAIR: "#cdeccd"}
SWEEPS = 8  # over the layers, down and up, to put each node below what it reads
CHARACTER, HEIGHT, PADDING, GAP, LAYER = 6.7, 22, 8, 14, 44  # pixels
LONGEST_LABEL = 26


def picture(roots: Sequence[Node], packed: Collection[Node], names: Mapping[Node, str], result: str) -> str | None:
    """The graph below `roots` as SVG; None where it has more than `MOST_NODES` nodes.

    Parameters
    ----------
    roots : sequence of Node
        Formulas.
    packed : collection of Node
        Those nodes that are computed once a row or column: dashed.
    names : mapping of Node to str
        How variables are called.
    result : str
        What becomes of the roots: a last box.
    """
    nodes = [n for n in topological(roots) if n.op.name != "const"]
    if len(nodes) > MOST_NODES:
        return None
    texts = [_label(n, names) for n in nodes]
    number = {n: k for k, n in enumerate(nodes)}
    reads = [[number[a] for a in dict.fromkeys(n.args) if a in number] for n in nodes]
    shown = dict(names)
    titles = [to_string(n, shown) for n in nodes]
    places, routes, size = _layout([*reads, sorted({number[r] for r in roots if r in number})], [*texts, result])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" width="{size[0]:.0f}" height="{size[1]:.0f}" '
        'font-family="monospace" font-size="11" role="img" aria-label="the formula\'s graph">'
    ]
    parts += [f'<path d="{_path(route)}" fill="none" stroke="#888" stroke-width="1"/>' for route in routes]
    for k, (x, y) in enumerate(places):
        last = k == len(nodes)
        text = result if last else texts[k]
        width = _width(text)
        fill = "#ffffff" if last else FILLS[nodes[k].axes]
        dashes = ' stroke-dasharray="3 2"' if not last and nodes[k] in packed else ""
        parts.append(
            f"<g><title>{escape(result if last else titles[k])}</title>"
            f'<rect x="{x - width / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="5" fill="{fill}" '
            f'stroke="#555"{dashes}/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="#111">{escape(text)}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def _label(node: Node, names: Mapping[Node, str]) -> str:
    """The operator with dots for its operands, constants written out."""
    if node in names:
        text = names[node]
    elif not node.args:
        text = to_string(node)
    else:
        text = to_string(node, {a: "·" for a in node.args if a.op.name != "const"})
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def _width(text: str) -> float:
    return len(text) * CHARACTER + 2 * PADDING


Point = tuple[float, float]


def _layout(reads: Sequence[Sequence[int]], texts: Sequence[str]) -> tuple[list[Point], list[list[Point]], Point]:
    """Where each box stands, the points of each edge, and the size of it all. A box reads boxes of smaller numbers."""
    # Layers: a box as high as what reads it allows, so that edges are short.
    depth = [0] * len(reads)
    for k in range(len(reads)):
        depth[k] = max((depth[a] + 1 for a in reads[k]), default=0)
    used_at: dict[int, list[int]] = {}
    for k in reversed(range(len(reads))):
        if k in used_at:
            depth[k] = min(depth[u] for u in used_at[k]) - 1
        for a in reads[k]:
            used_at.setdefault(a, []).append(k)
    # An edge over several layers passes a point in each.
    widths = [_width(t) for t in texts]
    above: list[list[int]] = [[] for _ in reads]
    routes: list[list[int]] = []
    for k in range(len(reads)):
        for a in reads[k]:
            route = [a]
            for d in range(depth[a] + 1, depth[k]):
                depth.append(d)
                widths.append(2.0)
                above.append([route[-1]])
                route.append(len(depth) - 1)
            above[k].append(route[-1])
            routes.append([*route, k])
    below: list[list[int]] = [[] for _ in depth]
    for k, found in enumerate(above):
        for a in found:
            below[a].append(k)
    layers: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for k, d in enumerate(depth):
        layers[d].append(k)

    x = [0.0] * len(depth)
    for layer in layers:
        _spread(layer, x, widths, [0.0] * len(layer))
    for sweep in range(SWEEPS):
        neighbours = below if sweep % 2 else above
        for layer in reversed(layers) if sweep % 2 else layers:
            wanted = {k: sum(x[a] for a in neighbours[k]) / len(neighbours[k]) if neighbours[k] else x[k] for k in layer}
            layer.sort(key=lambda k: wanted[k])
            _spread(layer, x, widths, [wanted[k] for k in layer])
    left = min(x[k] - widths[k] / 2 for k in range(len(x))) - 2
    right = max(x[k] + widths[k] / 2 for k in range(len(x))) + 2
    points = [(x[k] - left, HEIGHT / 2 + 2 + LAYER * depth[k]) for k in range(len(depth))]
    size = (right - left, HEIGHT + 4 + LAYER * max(depth))
    return points[: len(reads)], [[points[k] for k in route] for route in routes], size


def _spread(layer: Sequence[int], x: list[float], widths: Sequence[float], wanted: Sequence[float]) -> None:
    """Place a layer's boxes near where they want to be, in order and apart."""
    right = float("-inf")
    for k, w in zip(layer, wanted, strict=True):
        x[k] = max(w, right + GAP + widths[k] / 2)
        right = x[k] + widths[k] / 2
    shift = sum(w - x[k] for k, w in zip(layer, wanted, strict=True)) / len(layer)
    for k in layer:
        x[k] += shift


def _path(route: Sequence[Point]) -> str:
    """A smooth curve from box to box."""
    (x, y), text = route[0], f"M{route[0][0]:.1f} {route[0][1] + HEIGHT / 2:.1f}"
    y += HEIGHT / 2
    for k, (x1, y1) in enumerate(route[1:], 1):
        end = y1 - HEIGHT / 2 if k == len(route) - 1 else y1
        middle = (y + end) / 2
        text += f"C{x:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {end:.1f}"
        x, y = x1, end
    return text
