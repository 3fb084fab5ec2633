"""System calls that are answered inside WebAssembly, without Python."""
