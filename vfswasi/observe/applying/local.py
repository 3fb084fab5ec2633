"""Changes applied to a directory of this machine. What was begun is finished by applying the same changes again, after
whatever end: no file is ever anything but what it was or what it is to be."""

from __future__ import annotations

from collections.abc import Callable, Container

from ...errors import ApplyError, Errno, FsError, errno_of
from ...fs_backends.base import FileType, Key
from ...fs_backends.local.backend import LocalBackend
from ...fs_backends.local.publishing import alone, has_unseen, keep_permissions, why_fixed
from ...fs_backends.waiting import unbounded
from ...logs import logger
from .comparing import digest_of, opened, pieces
from .conflicts import Checked, check_again, raise_if
from .contents import digest_of_content, write
from .plan import Item, Plan
from .progress import Steps
from .staging import Staging, left_over, sync_directories

_log = logger(__name__)
_NO_LINK = (Errno.NOTSUP, Errno.PERM, Errno.XDEV, Errno.MLINK)


def apply(plan: Plan, backend: LocalBackend, check: Callable[[], Checked | None], steps: Steps) -> None:
    """check: raises ConflictError; None: everything is there already. Raises ConflictError, ApplyError."""
    with alone(backend):
        staging = Staging(backend, plan.ident())
        if left_over(backend, plan.ident()):
            _check_contents(plan, staging)
        else:
            checked = check()
            if checked is None:
                return
            _check_movable(plan, backend, checked)
            _stage(plan, staging, checked, steps)
        try:
            with unbounded():  # what has a journal is brought to its end, whatever time the run has
                _move(plan, staging, steps)
        except Exception as error:  # of the store, or of whoever is told how far it is
            raise ApplyError(
                f"the changes are made in part: {error}; when that is mended, apply the same changes again, which "
                "finishes them",
                left=[item.path for item in plan.items],
            ) from error


def _check_movable(plan: Plan, backend: LocalBackend, checked: Checked) -> None:
    """What would fail half way is told before. Raises ConflictError."""
    directories = {(): ""} | {key: "/".join(key) for key in checked.names}
    for item in plan.items:
        if item.entry.kind == "attributes":
            continue
        if item.base is not None:
            directories.setdefault(item.base[:-1], item.path)
            if item.is_directory:
                directories.setdefault(item.base, item.path)
        place = plan.before(item.key, itself=False) if item.key in plan.arriving else None
        if place is not None:
            directories.setdefault(place[:-1], item.path)
    conflicts = {
        "/".join(key): "it has a name that is not UTF-8, which nobody could see when it was removed"
        for key in checked.names
        if has_unseen(backend, key)
    }
    for key, path in directories.items():
        why = why_fixed(backend, key)
        if why is not None:
            conflicts[path] = why
    raise_if(conflicts)


# Before the journal


def _stage(plan: Plan, staging: Staging, checked: Checked, steps: Steps) -> None:
    """Everything that comes is in the staging directory, and the journal says so. Raises ApplyError, ConflictError."""
    try:
        staging.make()
        digests = {_new(item): _stage_file(item, plan, staging, steps) for item in plan.contents()}
        _link_again(plan, staging, digests)
        check_again(staging.backend, checked)
        for item in plan.coming():
            if item.entry.kind == "added":
                _stage_other(item, plan, staging)
        staging.write_journal(digests)
    except BaseException as error:
        try:
            staging.discard()
        except FsError as failure:
            _log.warning("%s could not be removed: %s", staging.key[0], failure)
        if isinstance(error, FsError):
            raise ApplyError(
                f"the changes were not applied, nothing was changed: {error}", left=[item.path for item in plan.items]
            ) from error
        raise


def _new(item: Item) -> str:
    return f"n{item.number}"


def _old(item: Item) -> str:
    return f"o{item.number}"


def _stage_file(item: Item, plan: Plan, staging: Staging, steps: Steps) -> str:
    backend, key = staging.backend, staging.at(_new(item))
    assert item.entry.content is not None
    handle = backend.create(key)
    try:
        digest = write(item.entry.content, handle, steps.step)
        handle.sync(False)
    finally:
        handle.close()
    replaced = item.base if item.entry.kind == "modified" else item.key if item.key in plan.replaced else None
    if replaced is not None:
        keep_permissions(backend, replaced, key)
    _set_times_at(backend, key, item)
    return digest


def _link_again(plan: Plan, staging: Staging, digests: dict[str, str]) -> None:
    """Names of one file in the target, which get the same contents, stay names of one file."""
    backend = staging.backend
    first: dict[tuple[int | None, str], Item] = {}
    for item in plan.contents():
        if item.entry.kind != "modified" or item.base is None:
            continue
        found = backend.stat(item.base)
        if found.nlink > 1:
            other = first.setdefault((found.ident, digests[_new(item)]), item)
            if other is not item:
                backend.remove(staging.at(_new(item)))
                backend.link(staging.at(_new(other)), staging.at(_new(item)))


def _stage_other(item: Item, plan: Plan, staging: Staging) -> None:
    """A directory, a link, another name of a file."""
    backend, key, entry = staging.backend, staging.at(_new(item)), item.entry
    if entry.filetype is FileType.DIRECTORY:
        backend.mkdir(key)
    elif entry.filetype is FileType.SYMBOLIC_LINK and entry.target is not None:
        backend.symlink(entry.target, key)
        _set_times_at(backend, key, item)
    elif item.is_name:
        source = _staged_or_base(plan, staging, item)
        try:
            backend.link(source, key)
        except FsError as error:
            if error.errno not in _NO_LINK:
                raise
            _copy(backend, source, key)


def _staged_or_base(plan: Plan, staging: Staging, item: Item) -> Key:
    """Where the contents of another name of something are, before anything moves."""
    key = plan.has_contents(item)
    if key in plan.written:
        return staging.at(_new(plan.written[key]))
    base = plan.before(key)
    assert base is not None
    return base


def _copy(backend: LocalBackend, old: Key, new: Key) -> None:
    if backend.stat(old).filetype is FileType.SYMBOLIC_LINK:
        backend.symlink(backend.readlink(old), new)
        return
    handle = backend.create(new)
    try:
        with opened(backend, old) as source:
            offset = 0
            for piece in pieces(source):
                handle.write_from(offset, piece)
                offset += len(piece)
        handle.sync(False)
    finally:
        handle.close()
    keep_permissions(backend, old, new)


# After the journal


def _check_contents(plan: Plan, staging: Staging) -> None:
    """The journal that is there is of these very contents. Raises ConflictError, ApplyError."""
    digests = staging.digests()
    waiting = staging.names()
    conflicts = {}
    try:
        for item, content in plan.each_content():
            digest = digest_of_content(content)
            if digests.get(_new(item)) != digest:
                conflicts[item.path] = f"other changes of it were left half made, see {staging.key[0]}"
            elif _new(item) in waiting and _digest_at(staging, _new(item)) != digest:
                conflicts[item.path] = f"somebody has changed its new contents, which wait in {staging.key[0]}"
    except FsError as error:
        raise ApplyError(f"the changes are made in part, and what they have cannot be read: {error}") from error
    raise_if(conflicts)


def _digest_at(staging: Staging, name: str) -> str | None:
    """SHA-256; None: it is no file."""
    if staging.backend.stat(staging.at(name)).filetype is not FileType.REGULAR_FILE:
        return None
    with opened(staging.backend, staging.at(name)) as handle:
        return digest_of(handle)


def _move(plan: Plan, staging: Staging, steps: Steps) -> None:
    """All that is left to do. Raises FsError."""
    backend = staging.backend
    touched: set[Key] = {()}
    if not staging.has_left():
        have_left = staging.names()
        if not have_left.issuperset(_new(item) for item in plan.coming() if item.entry.kind != "renamed"):
            raise FsError(Errno.STALE, f"{staging.key[0]!r} does not have any more what its journal says")
        for item in plan.leaving():
            assert item.base is not None
            if _old(item) not in have_left:
                backend.rename(item.base, staging.at(_old(item)))
                touched.add(item.base[:-1])
        sync_directories(backend, touched | {staging.key})
        staging.note_left()
    waiting = staging.names()
    for item in plan.coming():
        source = _old(item) if item.entry.kind == "renamed" else _new(item)
        if source in waiting:
            if item.entry.kind != "modified" and item.key not in plan.replaced:
                _check_free(backend, item.key)
            backend.rename(staging.at(source), item.key)
        touched.add(item.key[:-1])
        steps.step()
    _set_times(plan, backend)
    sync_directories(backend, touched)
    staging.end()
    _set_times(plan, backend, {()})
    steps.end()


def _check_free(backend: LocalBackend, key: Key) -> None:
    """Raises EXIST rather than lose what somebody else has put there."""
    try:
        backend.stat(key)
    except FsError as error:
        if error.errno is Errno.NOENT:
            return
        raise
    raise FsError(Errno.EXIST, f"{'/'.join(key)!r} has appeared meanwhile; move it away")


def _set_times(plan: Plan, backend: LocalBackend, keys: Container[Key] | None = None) -> None:
    """Of all, or of `keys`."""
    for item in plan.timed():
        if keys is None or item.key in keys:
            _set_times_at(backend, item.key, item)


def _set_times_at(backend: LocalBackend, key: Key, item: Item) -> None:
    """Where the system lets us: of what belongs to somebody else it does not."""
    atim_ns, mtim_ns = item.entry.atim_ns, item.entry.mtim_ns
    if atim_ns is None and mtim_ns is None:
        return
    try:
        found = backend.stat(key)
        if (atim_ns in (None, found.atim_ns)) and (mtim_ns in (None, found.mtim_ns)):
            return
        backend.set_times(key, atim_ns, mtim_ns)
    except FsError as error:
        if errno_of(error) not in (Errno.PERM, Errno.ACCES, Errno.NOTSUP):
            raise
        _log.warning("the times of %r could not be set: %s", item.path, error)
