"""Reading a policy file: YAML or JSON, `name: rule`, as oslo.policy reads them (policy.yaml, policy.json).

What is wrong is named with file and line, and never raised further than `PolicyFileError` (S3-55).
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import yaml


class PolicyFileError(Exception):
    """The file as a whole cannot be used; the text names it and says why."""


class Entry(NamedTuple):
    name: str
    rule: object  # text, or a list of lists of text
    line: int


def stamp(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file does: its text, its owner, its mode, or whether it is there at all."""
    try:
        status = path.stat()
    except OSError as error:
        return -(error.errno or 0), 0, 0
    return status.st_ctime_ns, status.st_size, status.st_ino


def read(path: Path) -> tuple[list[Entry], list[str]]:
    """The rules of a file in its order, and what is wrong with single lines of it.

    A missing file is an empty one. Raises PolicyFileError when it cannot be read or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return [], []
    except UnicodeDecodeError as error:
        raise PolicyFileError(f"{path}: not UTF-8 text at byte {error.start}") from None
    except PermissionError:
        raise PolicyFileError(f"{path}: may not be read by {_me()}: {_owner(path)}") from None
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_text(text, str(path))


def parse_text(text: str, source: str) -> tuple[list[Entry], list[str]]:
    import yaml  # takes a tenth of the server's start, and most clouds override nothing

    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return [], []
        if not isinstance(root, yaml.MappingNode):
            raise PolicyFileError(f"{source}:{root.start_mark.line + 1}: must be a mapping of rule names to rules")
        return _entries(loader, root, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        raise PolicyFileError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except ValueError as error:
        raise PolicyFileError(f"{source}: not valid YAML: {error}") from None
    except RecursionError:
        raise PolicyFileError(f"{source}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _entries(loader: yaml.SafeLoader, root: yaml.MappingNode, source: str) -> tuple[list[Entry], list[str]]:
    entries: dict[str, Entry] = {}
    problems = []
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            problems.append(f"{source}:{line}: a rule's name must be text")
            continue
        name = key.value
        if name in entries:
            problems.append(
                f"{source}:{line}: rule '{name}' is given twice, first in line {entries[name].line}; this one counts"
            )
        entries[name] = Entry(name, loader.construct_object(value, deep=True), line)
    return list(entries.values()), problems


def _me() -> str:
    uid = os.geteuid()
    return f"{_name_of_user(uid)} (uid {uid})"


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owner(path: Path) -> str:
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except OSError:
            continue
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            group = str(status.st_gid)
        what = "it" if place == path else f"its folder {place}"
        return f"{what} belongs to {_name_of_user(status.st_uid)}:{group}, mode {stat.S_IMODE(status.st_mode):04o}"
    return "its owner cannot be seen"
