"""All semantics of the system calls. Knows no WebAssembly and no storage library.

| question                                         | module         |
|--------------------------------------------------|----------------|
| which object does this path name?                | `resolve`      |
| what may this descriptor do?                     | `rights`, `fdtable` |
| what does an open file, directory, stream do?    | `descriptor`, `streams`, `dirstream` |
| which object is behind a name, and since when?   | `inode`, `filedata` |
| open / look at / change something by path        | `path_open`, `path_stat`, `path_change` |
| what time is it, and how long may we wait?       | `clocks`, `poll` |
| what is a running guest made of?                 | `process`      |
"""
