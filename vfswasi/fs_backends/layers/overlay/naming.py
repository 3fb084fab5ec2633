"""Names of an overlay that come, go and move; times that are set."""

from __future__ import annotations

from typing import Final

from ....errors import Errno, FsError
from ...base import FileType, Key, Stat
from .handle import Reader
from .looking import Looking
from .nodes import DirectoryNode, FileNode, LinkNode, Node
from .numbers import ident_of

# Members of an enumeration take as long to look up as a call (0.14 us, Python 3.11).
_DIRECTORY: Final = FileType.DIRECTORY
_REGULAR_FILE: Final = FileType.REGULAR_FILE


class Naming(Looking):
    """Nothing here copies contents, and nothing looks below a directory that moves or goes."""

    def touch(self, file: FileNode) -> None:
        """Something of it is ours from now on."""
        if file.base is not None:
            self._tree.touch(file)

    def note(self, file: FileNode) -> None:
        """What the base has of it is what the changes are made on."""
        self._tree.note(file)

    def adopt(self, reader: Reader) -> FileNode:
        """The node of an open file that had none."""
        with self._lock:
            file = self._tree.file_of(reader.ident())
            if reader.alone or file is None:
                raise FsError(Errno.BADF, "the file was closed")
            return file

    def forget(self, reader: Reader) -> None:
        """It is closed, and has no node."""
        self._tree.readers.pop(reader.ident(), None)

    def closed(self, file: FileNode) -> None:
        """A handle was closed, or a name has gone."""
        if file.handles:
            return
        lower = file.lower
        if lower is not None and (handle := lower.opened) is not None:
            lower.opened = None
            handle.close()
        if file.nlink <= 0:
            if file.staged is not None:
                file.staged.release()
            self._tree.files.pop(file.ident, None)
        elif file.base is not None and not file.touched:
            self._tree.files.pop(file.ident, None)

    def _room_for(self, key: Key) -> tuple[DirectoryNode, str]:
        if not key:
            raise FsError(Errno.EXIST)
        tree = self._tree
        directory = tree.directory(key[:-1]) if len(key) > 1 else tree.root
        if tree.is_taken(directory, key[-1]):
            raise FsError(Errno.EXIST)
        return directory, key[-1]

    def _put(self, directory: DirectoryNode, name: str, node: Node) -> None:
        self._tree.put_in(directory, name, node)
        directory.changed(next(self._tree.versions), self.now_ns())

    def mkdir(self, key: Key) -> None:
        with self._lock:
            directory, name = self._room_for(key)
            self._put(directory, name, self._tree.new_directory())
            directory.link(1)

    def symlink(self, target: str, key: Key) -> None:
        if "\0" in target:
            raise FsError(Errno.INVAL)
        try:
            target.encode()
        except UnicodeEncodeError as error:
            raise FsError(Errno.ILSEQ) from error
        with self._lock:
            directory, name = self._room_for(key)
            self._put(directory, name, LinkNode(self._tree.new_ident(), None, None, target, self.now_ns()))

    def link(self, old: Key, new: Key) -> None:
        with self._lock:
            tree = self._tree
            node, place = tree.locate(old)
            found = tree.base.stat(place) if node is None else None
            if (found.filetype if found is not None else node and node.filetype) is _DIRECTORY:
                raise FsError(Errno.PERM)
            directory, name = self._room_for(new)
            if found is not None:
                node = tree.node_at(place, found)
                if not isinstance(node, FileNode):  # there is no other way to come from one name to the other
                    tree.directory(old[:-1]).children[old[-1]] = node
            assert node is not None
            if isinstance(node, FileNode):
                self._relink(node, 1)
            else:
                self._relink_other(node, 1)
                node.ctim = self.now_ns()
            self._put(directory, name, node)

    def _relink(self, file: FileNode, count: int) -> None:
        if not file.relinked:
            if file.base is not None:
                file.nlink = self._tree.stat_of(file).nlink
            file.relinked = True
        file.nlink += count
        file.ctim = self.now_ns()
        if file.base is not None:
            self._tree.touch(file)

    def _relink_other(self, node: Node, count: int) -> None:
        if node.origin is not None:
            self._tree.relink(node.ident, node.origin.nlink, count)
        else:
            node.nlink += count

    def _found(self, key: Key) -> tuple[DirectoryNode, str, Node | None, Stat | None]:
        """(directory, name, node or None, what the base says or None) of what is at `key`. Raises NOENT, NOTDIR."""
        tree = self._tree
        directory, name = tree.directory(key[:-1]) if len(key) > 1 else tree.root, key[-1]
        node, found = tree.existing(directory, name)
        if node is None and found is None:
            raise FsError(Errno.NOENT)
        return directory, name, node, found

    def rmdir(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.BUSY)
        with self._lock:
            directory, name, node, found = self._found(key)
            if (found.filetype if node is None and found else node and node.filetype) is not _DIRECTORY:
                raise FsError(Errno.NOTDIR)
            node = self._tree.directory(key)
            if not self._tree.is_empty(node):
                raise FsError(Errno.NOTEMPTY)
            self._drop(directory, name, node, None)
            directory.link(-1)
            directory.changed(next(self._tree.versions), self.now_ns())

    def remove(self, key: Key) -> None:
        if not key:
            raise FsError(Errno.ISDIR)
        with self._lock:
            directory, name, node, found = self._found(key)
            if (found.filetype if found is not None else node and node.filetype) is _DIRECTORY:
                raise FsError(Errno.ISDIR)
            self._drop(directory, name, node, found)
            directory.changed(next(self._tree.versions), self.now_ns())

    def _drop(self, directory: DirectoryNode, name: str, node: Node | None, found: Stat | None) -> None:
        """What is no directory, or an empty one, loses a name."""
        tree = self._tree
        if node is not None:
            tree.take_out(directory, name, node)
        else:
            assert found is not None
            place = directory.place_of(name)
            assert place is not None
            if found.filetype is _REGULAR_FILE:
                node = tree.file_of(ident_of(place) if found.ident is None else found.ident)
                if node is None and found.nlink > 1:
                    node = tree.file_at(place, found)
            before = node.before if isinstance(node, FileNode) else None
            directory.gone[name] = tree.was_at(place, found) if before is None else before
        if isinstance(node, FileNode):
            self._relink(node, -1)
            self.closed(node)
        elif node is None:
            assert found is not None
            if found.ident is not None:
                tree.relink(found.ident, found.nlink, -1)
        elif isinstance(node, DirectoryNode):
            node.nlink = 0
            if node.base is not None:
                tree.removed[node.base] = node.gone
                del tree.shows[node.base]
        else:
            self._relink_other(node, -1)

    def rename(self, old: Key, new: Key) -> None:
        if not old or not new:
            raise FsError(Errno.BUSY)
        with self._lock:
            met: list[FileNode] = []
            try:
                self._rename(old, new, met)
            finally:  # nothing is remembered of what is as it was
                for file in met:
                    self.closed(file)

    def _rename(self, old: Key, new: Key, met: list[FileNode]) -> None:
        """`met`: gets the files that there are nodes of now."""
        tree = self._tree
        source, old_name, node, found = self._found(old)
        into, new_name = tree.directory(new[:-1]), new[-1]
        over, over_found = tree.existing(into, new_name)
        if over is None and over_found is not None:
            place = into.place_of(new_name)
            assert place is not None
            if over_found.filetype is _REGULAR_FILE:
                over = tree.file_at(place, over_found)
        if node is None and found is not None:
            place = source.place_of(old_name)
            assert place is not None
            node = tree.node_at(place, found)
        assert node is not None
        met.extend(file for file in (node, over) if isinstance(file, FileNode))
        if over is node or (old == new and found is not None):
            return
        if new[: len(old)] == old:
            raise FsError(Errno.INVAL)
        over_kind = over.filetype if over is not None else over_found.filetype if over_found is not None else None
        is_directory = isinstance(node, DirectoryNode)
        if over_kind is not None:
            self._check_replaced(new, is_directory, over_kind)
            if over_kind is _DIRECTORY:
                over = tree.directory(new)
            self._drop(into, new_name, over if over_kind is _DIRECTORY else into.children.get(new_name), over_found)
        if found is not None:
            place = source.place_of(old_name)
            assert place is not None
            before = node.before if isinstance(node, FileNode) else None
            source.gone[old_name] = tree.was_at(place, found) if before is None else before
        else:
            tree.take_out(source, old_name, node)
        tree.put_in(into, new_name, node)
        node.ctim = now = self.now_ns()
        if is_directory:
            source.link(-1)
            into.link(0 if over_kind is _DIRECTORY else 1)
        if isinstance(node, FileNode):
            self.touch(node)
        for directory in (source, into):
            directory.changed(next(tree.versions), now)
        if isinstance(node, DirectoryNode):
            node.version = next(tree.versions)

    def _check_replaced(self, new: Key, is_directory: bool, over_kind: FileType) -> None:
        if is_directory and over_kind is not _DIRECTORY:
            raise FsError(Errno.NOTDIR)
        if not is_directory and over_kind is _DIRECTORY:
            raise FsError(Errno.ISDIR)
        if is_directory and not self._tree.is_empty(self._tree.directory(new)):
            raise FsError(Errno.NOTEMPTY)

    def set_times(self, key: Key, atim_ns: int | None, mtim_ns: int | None) -> None:
        with self._lock:
            tree = self._tree
            if not key:
                tree.root.set_times(atim_ns, mtim_ns, self.now_ns())
                return
            node, place = tree.locate(key)
            if node is None:
                found = tree.base.stat(place)
                if found.filetype is _DIRECTORY:
                    node = tree.directory(key)
                else:
                    node = tree.node_at(place, found)
                    if not isinstance(node, FileNode):
                        tree.directory(key[:-1]).children[key[-1]] = node
            if isinstance(node, FileNode):
                if not node.written:
                    now = tree.stat_of(node)
                    node.atim, node.mtim = now.atim_ns, now.mtim_ns
                self.touch(node)
                self.note(node)
            node.set_times(atim_ns, mtim_ns, self.now_ns())
