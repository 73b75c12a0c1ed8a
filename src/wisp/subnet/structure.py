"""From the labels of all weights to channel groups and layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wisp.subnet.groups import Attribute, Axis, ChannelGroups, Group, Layout, Segment, UnsupportedStructure
from wisp.subnet.labels import FIXED, Labels, Mark, Vector

Place = tuple[str, int]
"""A tensor's name and one of its axes."""


@dataclass
class _Atom:
    """Labels that occur in the same axes and in no others: the channels of one group, in order."""

    labels: list[int]
    places: list[Place] = field(default_factory=list)
    name: str = ""


def channel_groups(
    labels: Labels,
    places: Mapping[Place, Vector],
    filters: set[str],
    attributes: Mapping[tuple[str, str], list[Vector]],
) -> ChannelGroups:
    """The groups behind `labels`, for the axes in `places`, which come in the order of the network.

    Args:
        labels: after a run of the network.
        places: the labels of every axis of every weight.
        filters: weights of layers whose axis 0 produces channels.
        attributes: module path and name of numbers, with the labels of what they may count: the first that has a width.

    Raises:
        UnsupportedStructure: channels lie on an axis in another order than where they are produced, or no layer
            produces them.
    """
    roots = {place: labels.find(vector) for place, vector in places.items()}
    fixed = {place: labels.has(vector, FIXED) for place, vector in places.items()}
    atoms = _atoms(roots, fixed)
    _name(atoms, filters)
    member = {label: atom for atom in atoms for label in atom.labels}
    layouts = {
        place: _layout(place[0].rpartition(".")[0], vector.tolist(), member)
        for place, vector in roots.items()
        if not bool(fixed[place].all())
    }
    groups = []
    for atom in atoms:
        plain = (Segment(atom.name),)
        axes = [Axis(*place, () if layouts[place] == plain else layouts[place]) for place in atom.places]
        whole = bool(labels.has(np.array(atom.labels), Mark.HEAD).any())
        groups.append(Group(atom.name, len(atom.labels), tuple(axes), whole))
    counts = []
    for (path, name), vectors in attributes.items():
        free = [vector for vector in vectors if not bool(labels.has(vector, FIXED).all())]
        if free:
            counts.append(Attribute(path, name, _layout(path, labels.find(free[0]).tolist(), member)))
    return ChannelGroups(tuple(groups), tuple(counts))


def _atoms(roots: Mapping[Place, Vector], fixed: Mapping[Place, NDArray[np.bool_]]) -> list[_Atom]:
    seen: dict[int, list[Place]] = {}
    for place, vector in roots.items():
        for label in dict.fromkeys(vector[~fixed[place]].tolist()):
            seen.setdefault(label, []).append(place)
    atoms: dict[tuple[Place, ...], _Atom] = {}
    for label, where in seen.items():
        atoms.setdefault(tuple(where), _Atom([], where)).labels.append(label)
    return list(atoms.values())


def _name(atoms: list[_Atom], filters: set[str]) -> None:
    """Name each atom after its first producer; a number follows where that layer produces several."""
    taken: dict[str, int] = {}
    for atom in atoms:
        producers = [tensor for tensor, dim in atom.places if dim == 0 and tensor in filters]
        if not producers:
            layer, _, name = atom.places[0][0].rpartition(".")
            raise UnsupportedStructure(
                f"{layer or 'the network itself'}: its {name} could not be coupled to any layer's channels"
            )
        layer = producers[0].rpartition(".")[0]
        count = taken[layer] = taken.get(layer, -1) + 1
        atom.name = f"{layer}[{count}]" if count else layer


def _layout(layer: str, vector: list[int], member: Mapping[int, _Atom]) -> Layout:
    """Read an axis as whole groups in order, each channel as a block of consecutive entries."""
    segments: list[Segment] = []
    at = 0
    while at < len(vector):
        atom = member.get(vector[at])
        if atom is None:
            end = next((k for k in range(at, len(vector)) if vector[k] in member), len(vector))
            segments.append(Segment(None, end - at))
            at = end
            continue
        block = next((k for k in range(at, len(vector)) if vector[k] != vector[at]), len(vector)) - at
        end = at + block * len(atom.labels)
        if vector[at:end] != [label for label in atom.labels for _ in range(block)]:
            raise UnsupportedStructure(
                f"{layer or 'the network itself'}: its channels are those of {atom.name} in another order, or a part "
                "of them; shuffled and interleaved channels are not supported"
            )
        segments.append(Segment(atom.name, block))
        at = end
    return tuple(segments)
