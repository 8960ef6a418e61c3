"""Where the files that a user's table names lie: below its root, each folder looked at once."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from multimodal.errors import UserError

FEW = 16  # rows of a folder that are asked for one by one
KNOWN = 2**16  # folders of links that are remembered
SPARE = 20  # a folder with so many times as many entries as rows is not listed


class Files(NamedTuple):
    """Of N names in their order.

    uids: POSIX names relative to the root. missing, outside: places of those that are no file, and
    of names that lead out of the root (of each folder only the first).
    """

    uids: list[str]
    missing: list[int]
    outside: list[int]


class Folder(NamedTuple):
    """absolute: its name with a "/" behind it. prefix: the same relative to the root."""

    absolute: str
    prefix: str


def find_files(root: Path, names: Sequence[str]) -> Files:
    """The files of ``names``, as ``spelled`` and ``inside`` find each of them, but faster."""
    places, found = _Places(root), Files(list(names), [], [])
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        members[name[: name.rfind("/") + 1]].append(row)
    for head, rows in members.items():
        start, folder = len(head), places.folder(head)
        there = folder and _plain_files(folder.absolute, len(rows))
        for row in rows:
            if there and folder and names[row][start:] in there:
                if head != folder.prefix:
                    found.uids[row] = folder.prefix + names[row][start:]
                continue
            try:
                found.uids[row], exists = places.find(names[row])
            except ValueError:
                found.outside.append(row)
                break
            if not exists:
                found.missing.append(row)
    found.missing.sort()
    found.outside.sort()
    return found


def with_ending(root: Path, names: Sequence[str], found: Files, ending: str) -> Files:
    """Of names that were not found those that stand for a file which ends so."""
    again = find_files(root, [names[row] + ending for row in found.missing])
    uids, lost = list(found.uids), {*again.missing, *again.outside}
    for place, row in enumerate(found.missing):
        if place not in lost:
            uids[row] = again.uids[place]
    missing = [found.missing[place] for place in again.missing]
    outside = sorted([*found.outside, *(found.missing[place] for place in again.outside)])
    return Files(uids, missing, outside)


def _plain_files(folder: str, wanted: int) -> set[str]:
    """Names of the files in a folder that are no links; empty where listing it does not pay."""
    names: set[str] = set()
    if wanted < FEW:
        return names
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number > SPARE * wanted:
                    return set()
                if entry.is_file(follow_symlinks=False):
                    names.add(entry.name)
    except OSError:
        return set()
    return names


class _Places:
    """A root whose folders are resolved once each."""

    def __init__(self, root: Path) -> None:
        self.root, self.real = root, root.resolve()
        self.absolute = os.path.normpath(root.absolute())
        self._known: dict[str, Folder | None] = {}
        self._targets: dict[tuple[str, str], str | None] = {}  # of links: real folders

    def folder(self, head: str) -> Folder | None:
        """Of what stands before a file's own name; None if that needs a closer look."""
        if head not in self._known:
            self._known[head] = self._folder(head)
        return self._known[head]

    def _folder(self, head: str) -> Folder | None:
        if ".." in head.split("/"):  # behind a link it may be another folder than it seems
            return None
        path = Path(os.path.normpath(os.path.join(self.absolute, head)))
        try:
            relative = path.relative_to(self.absolute).as_posix()
            path.resolve().relative_to(self.real)
        except (ValueError, OSError, RuntimeError):
            return None
        return Folder(os.path.join(path, ""), "" if relative == "." else f"{relative}/")

    def find(self, name: str) -> tuple[str, bool]:
        """(uid, whether there is such a file); ValueError if it leads out of the root."""
        for form in forms(name):
            head, tail = form[: form.rfind("/") + 1], form[form.rfind("/") + 1 :]
            folder = self.folder(head)
            if folder is None or tail in ("", ".", "..") or "\0" in tail:
                return self._closely(name)
            try:
                kind = os.lstat(folder.absolute + tail).st_mode
            except OSError:
                continue
            if stat.S_ISREG(kind) or self._leads_inside(folder, tail):
                return folder.prefix + tail, True
            return self._closely(name)
        head, tail = name[: name.rfind("/") + 1], name[name.rfind("/") + 1 :]
        folder = self.folder(head)
        assert folder is not None
        return folder.prefix + tail, False

    def _leads_inside(self, folder: Folder, tail: str) -> bool:
        """Whether it is a link to a plain file of a folder inside the root, straight.

        Anything else, such as a link to a link, is to be looked at closely.
        """
        try:
            target = os.readlink(folder.absolute + tail)
        except OSError:  # no link
            return False
        head, name = target[: target.rfind("/") + 1], target[target.rfind("/") + 1 :]
        if name in ("", ".", ".."):
            return False
        key = folder.absolute, head
        if key not in self._targets:
            if len(self._targets) > KNOWN:  # some stores have a folder for each file
                self._targets.clear()
            # Resolved by the system: what stands before ".." may be a link itself.
            real = os.path.realpath(os.path.join(folder.absolute, head))
            within = os.path.commonpath([real, self.real]) == str(self.real)
            self._targets[key] = os.path.join(real, "") if within else None
        real = self._targets[key]
        try:
            return real is not None and stat.S_ISREG(os.lstat(real + name).st_mode)
        except OSError:
            return False

    def _closely(self, name: str) -> tuple[str, bool]:
        try:
            path, uid = inside(self.root, spelled(self.root, name), name)
        except UserError as error:
            raise ValueError(name) from error
        # Unlike Path.is_file, it does not fail on a name that is too long for a file.
        return uid, os.path.isfile(path)


def forms(name: str) -> Iterator[str]:
    """A name as it is written and as its file may be called: tables are often written on another
    system.
    """
    yield name
    if name.isascii() and "\\" not in name:
        return
    slashes = name.replace("\\", "/")
    yield slashes
    yield from (unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))


def spelled(root: Path, name: str) -> str:
    """``name`` as its file is called."""
    try:
        return next((form for form in forms(name) if os.path.exists(root / form)), name)
    except ValueError:  # a NUL
        return name


def inside(root: Path, name: str, where: str) -> tuple[Path, str]:
    """(file, its POSIX name relative to root); UserError if it leads out of root."""
    path = Path(os.path.normpath(root.absolute() / name))
    try:
        relative = path.relative_to(os.path.normpath(root.absolute()))
        path.resolve().relative_to(root.resolve())
    except (ValueError, RuntimeError) as error:  # RuntimeError: links that form a ring
        raise leads_out(root, where) from error
    return root / relative, relative.as_posix()


def leads_out(root: Path, where: str) -> UserError:
    return UserError(f"{where} leads out of the data root {root}; move it inside.")
