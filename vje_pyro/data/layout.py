"""What the folders of a data set mean, splits or classes; what can be both is refused."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vje_pyro.data.decoding import printable
from vje_pyro.errors import DataError

_ROLES = {
    **dict.fromkeys(("pretrain", "pretraining", "unlabeled", "unlabelled"), "pretrain"),
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_FILLERS = ("set", "data", "dataset", "images", "image", "imgs", "img", "split", "files", "photos")
_WORD = re.compile(rf"({'|'.join(_ROLES)})({'|'.join(_FILLERS)})?")


@dataclass
class Tree:
    """A folder: images in it, images in it and below, and its subfolders that hold images."""

    files: int = 0
    total: int = 0
    folders: dict[str, "Tree"] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Tree":
        """The tree of relative file names."""
        root = cls()
        for name in names:
            place = root
            place.total += 1
            for part in name.split(os.sep)[:-1]:
                place = place.folders.setdefault(part, cls())
                place.total += 1
            place.files += 1
        return root


def role_of(name: str) -> tuple[str, str] | None:
    """The split that a folder is named after, and what else is in its name; None for others.

    >>> role_of("Training"), role_of("test_set"), role_of("seg_train"), role_of("trains")
    (('train', ''), ('test', ''), ('train', 'seg'), None)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]
    roles = {_ROLES[match[1]] for word in words if (match := _WORD.fullmatch(word))}
    rest = [word for word in words if word not in _FILLERS and not _WORD.fullmatch(word)]
    if roles == {"train", "val"}:
        roles = {"train"}  # both, to train on
    return (roles.pop(), " ".join(rest)) if len(roles) == 1 else None


def split_folders(root: str, names: Iterable[str], layout: str = "auto") -> dict[str, str]:
    """The folders that are splits, by role: ``pretrain``, ``train``, ``val`` and ``test``.

    Args:
        root: The data set's folder, for messages.
        names: Its images, relative to it.
        layout: ``auto``; ``splits`` or ``classes`` decide what would be refused.

    Raises:
        DataError: If the folders can be read in two ways, two have the same role, or none is for
            training.
    """
    tree = Tree.of(names)
    if layout == "classes":
        return {}
    group = _split_group(root, tree)
    if not group and layout == "splits":
        raise DataError(f"{_shown(root)} has no folders that are named like splits (train, test)")
    others = [name for name in tree.folders if name not in group.values()]
    if layout == "auto" and group and others and _is_class(root, tree, group, others):
        group = {}
    if group and not {"train", "pretrain"} & group.keys():
        raise DataError(
            f"{_shown(root)} has {_list(group.values())}, but no folder train: name one train, or "
            "set data.layout=classes if these are classes"
        )
    for name in group.values() or tree.folders if layout == "auto" else ():
        _check_inside(os.path.join(root, name), tree.folders[name])
    return {role: _unwrapped(tree, folder, role) for role, folder in group.items()}


def _split_group(root: str, tree: Tree) -> dict[str, str]:
    """Folders named alike but for the split: ``train`` and ``test``, ``a_train`` and ``a_test``."""
    groups = _groups(tree.folders)
    pairs = [group for group in groups.values() if _has_splits(group)]
    named = [one for group in groups.values() for one in group]
    if len(pairs) > 1 or (not pairs and _has_splits(named)):
        raise DataError(
            f"{_shown(root)} has folders that are named like splits in different "
            f"ways ({_list(folder for _, folder in named)}): name them train and test, or set "
            "data.layout=classes if these are classes"
        )
    group = pairs[0] if pairs else groups.get("", [])
    if len(dict(group)) < len(group):
        raise DataError(
            f"{_shown(root)} has several folders for one split ({_list(f for _, f in group)}): "
            "rename all but one, or set data.layout=classes if these are classes"
        )
    return dict(group)


def _has_splits(group: list[tuple[str, str]]) -> bool:
    roles = {role for role, _ in group}
    return len(roles) > 1 and bool(roles & {"train", "pretrain"})


def _groups(folders: Mapping[str, Tree]) -> dict[str, list[tuple[str, str]]]:
    groups = defaultdict(list)
    for name in sorted(folders):
        if (found := role_of(name)) is not None:
            groups[found[1]].append((found[0], name))
    return groups


def _is_class(root: str, tree: Tree, group: Mapping[str, str], others: list[str]) -> bool:
    """Whether a folder named like a split is a class: a lone one, where none has subfolders."""
    flat = not any(folder.folders for folder in tree.folders.values())
    if len(group) == 1 and flat and "pretrain" not in group:
        return True
    if len(group) > 1 and not flat:
        return False  # splits with classes of their own, and something else
    raise DataError(
        f"{_shown(root)} has {_list(group.values())}, named like splits, beside {_list(others)}: "
        "set data.layout=classes if all are classes, or data.layout=splits to skip "
        f"{_list(others)}"
    )


def _check_inside(path: str, folder: Tree) -> None:
    """Refuse splits further down: they would be mixed, test images with those to train on."""
    places = [(path, folder)]
    while places:
        path, folder = places.pop()
        for group in _groups(folder.folders).values():
            if _has_splits(group):
                raise DataError(
                    f"{_shown(path)} has folders named like splits ({_list(f for _, f in group)}), "
                    f"which would be mixed: set data.root={_shown(path)}, or arrange the images as "
                    "train/CLASS and test/CLASS, or set data.layout=classes to use all as one split"
                )
        places += [(os.path.join(path, name), inside) for name, inside in folder.folders.items()]


def _unwrapped(tree: Tree, folder: str, role: str) -> str:
    """``train/train``, as archives unfold, is ``train``."""
    inside = tree.folders[folder]
    while not inside.files and len(inside.folders) == 1:
        ((name, below),) = inside.folders.items()
        if (role_of(name) or ("",))[0] != role:
            break
        folder, inside = os.path.join(folder, name), below
    return folder


def _shown(path: str) -> str:
    return printable(os.path.abspath(path))


def _list(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return ", ".join(shown[:5]) + more
