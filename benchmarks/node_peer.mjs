// Runs a WASI program with node:wasi:  node node_peer.mjs MODULE DIRECTORY [ARGUMENT...]
// The program sees DIRECTORY as /d.
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const [module, directory, ...args] = process.argv.slice(2);
const wasi = new WASI({
  version: 'preview1',
  args: ['bench.wasm', ...args],
  preopens: { '/d': directory },
  returnOnExit: true,
});
const { instance } = await WebAssembly.instantiate(await readFile(module), wasi.getImportObject());
process.exitCode = wasi.start(instance);
