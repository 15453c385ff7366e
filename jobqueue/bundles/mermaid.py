"""Groups of jobs as a Mermaid flowchart."""

import re
from collections.abc import Sequence

from jobqueue.bundles.grouping import Group
from jobqueue.bundles.wording import named, states_of, who

_STYLES = {
    "completed": "fill:#d1fae5,stroke:#059669,color:#064e3b",
    "running": "fill:#bae6fd,stroke:#0284c7,color:#0c4a6e",
    "ready": "fill:#e0e7ff,stroke:#4f46e5,color:#312e81",
    "scheduled": "fill:#ede9fe,stroke:#7c3aed,color:#4c1d95",
    "blocked": "fill:#e5e7eb,stroke:#6b7280,color:#1f2937",
    "cancelled": "fill:#fde68a,stroke:#d97706,color:#78350f",
    "dead": "fill:#fecaca,stroke:#dc2626,color:#7f1d1d,stroke-width:3px",
    "gone": "fill:#f9fafb,stroke:#6b7280,color:#374151,stroke-dasharray:4",
}
"""Each with the colour of its text, so that it does not matter whether the page is light or dark."""

_UNSAFE = re.compile(r"^[-+_]|[.)](?= )|[^\w .:/,()…+-]")
"""What may be syntax, or would make a label a list."""


def flowchart(groups: Sequence[Group]) -> str:
    """A node for each group, in the colour of the worst state in it."""
    if not groups:
        return 'flowchart LR\n  n0["no jobs"]'
    nodes = [f"  n{place}{_node(group)}:::{group.worst_first[0][0]}" for place, group in enumerate(groups)]
    links = [f"  n{before} --> n{place}" for place, group in enumerate(groups) for before in group.before]
    used = {group.worst_first[0][0] for group in groups}
    styles = [f"  classDef {state} {style}" for state, style in _STYLES.items() if state in used]
    return "\n".join(["flowchart LR", *nodes, *links, *styles])


def _node(group: Group) -> str:
    """A box; jobs of other bundles have a double one, callbacks a round one."""
    words = [named(group.task), who(group), *(text for _, text in states_of(group))]
    label = "<br/>".join(_UNSAFE.sub(lambda found: f"#{ord(found[0])};", word) for word in words)
    if group.callback:
        return f'(["{label}"])'
    return f'[["{label}"]]' if group.outside else f'["{label}"]'
