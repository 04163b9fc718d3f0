"""Every name that a library has in the two stores."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The Redis keys and Milvus names of one library; paths are keys as the bytes the file system knows them by."""

    library: str

    @property
    def prefix(self) -> bytes:
        return b"lookalike:" + self.library.encode()

    @property
    def schema(self) -> bytes:
        """String: the layout's version; its absence means that the mapping was emptied."""
        return self.prefix + b":schema"

    @property
    def owner(self) -> bytes:
        """Hash: who may write to the library now, as `daemon/index/lease.lua` describes it."""
        return self.prefix + b":owner"

    @property
    def files(self) -> bytes:
        """Sorted set, all scores 0: every path, in byte order."""
        return self.prefix + b":files"

    @property
    def photos(self) -> bytes:
        """Set: the id of every photo."""
        return self.prefix + b":photos"

    @property
    def inodes(self) -> bytes:
        """Hash: `device:inode` -> path, by which a moved file is known without being read."""
        return self.prefix + b":inodes"

    @property
    def intents(self) -> bytes:
        """Set: ids being written to Milvus, or removed from it."""
        return self.prefix + b":intents"

    @property
    def aside(self) -> bytes:
        """Sorted set: id of a photo whose last file was excluded -> Unix time. Its vectors stay for a while; nothing else does."""
        return self.prefix + b":aside"

    @property
    def failures(self) -> bytes:
        """Hash: path -> JSON of why it is not indexed."""
        return self.prefix + b":failures"

    @property
    def folders(self) -> bytes:
        """Hash: watched folder -> JSON of what is remembered of it."""
        return self.prefix + b":folders"

    @property
    def holds(self) -> bytes:
        """Hash: watched folder -> JSON of its holds, each with its files; read and written together with `folders`."""
        return self.prefix + b":holds"

    @property
    def collections(self) -> bytes:
        """Hash: Milvus collection -> JSON of the model and the version whose vectors it holds."""
        return self.prefix + b":collections"

    def file(self, path: str) -> bytes:
        """Hash: id, size, mtime_ns, device, inode."""
        return self.prefix + b":file:" + os.fsencode(path)

    def photo(self, photo: int) -> bytes:
        """Hash: digest, width, height, format, taken_at, bytes."""
        return b"%b:photo:%d" % (self.prefix, photo)

    def paths(self, photo: int) -> bytes:
        """Set: every path that holds the photo."""
        return b"%b:paths:%d" % (self.prefix, photo)

    def encoded(self, collection: str) -> bytes:
        """Set: ids whose vector is in the collection."""
        return self.prefix + b":encoded:" + collection.encode()

    def collection(self, model: str, fingerprint: str) -> str:
        """Return the Milvus collection of one model in one version; Milvus takes letters, digits and underscores."""
        return f"{self.alias(model)}_{fingerprint}"

    def alias(self, model: str) -> str:
        """Return the Milvus alias of a model's current collection."""
        return f"{self.library}_{''.join(c if c.isascii() and c.isalnum() else '_' for c in model)}"
