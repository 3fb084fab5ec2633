// Runs the benchmark guest under node:wasi: node node_peer.mjs bench.wasm DIRECTORY
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const [, , module, directory] = process.argv;
const wasi = new WASI({ version: 'preview1', args: ['bench', '/d'], preopens: { '/d': directory }, returnOnExit: true });
const { instance } = await WebAssembly.instantiate(await readFile(module), wasi.getImportObject());
process.exitCode = wasi.start(instance);
