"""All semantics of the system calls. Knows no WebAssembly and no storage library.

| question                                         | module         |
|--------------------------------------------------|----------------|
| what is a running guest made of?                 | `process`      |
| what may this descriptor do?                     | `rights`, `fdtable` |
| what does an open file or directory do?          | `descriptor`, `files.dirstream` |
| what does a stream or a device do; what waits?   | `streams` (`stream`, `devices`, `host_descriptor`, `poll`) |
| which object does this path name?                | `paths.resolve` |
| open / look at / change something by path        | `paths.open`, `paths.device`, `paths.stat`, `paths.change` |
| which object is behind a name, and since when?   | `files.inode`, `files.serials`, `files.filedata` |
| what may a run add to the stores?                | `files.quota`  |
| what has a cache above a store to keep to?       | `files.window`, `files.sharing` |
| what time is it, and how long may we wait?       | `clocks`, `own_clocks` |
| where do random bytes come from?                 | `entropy`      |
"""
