;; System calls that never leave WebAssembly.
;;
;; This module answers calls on behalf of the kernel, so it is trusted: it is the only code beside our own Python that
;; writes to guest memory. It decides nothing. The kernel (vdso.py) publishes what a call may do, and each function
;; here does the whole call or, without having changed anything that counts, gives it to Python ("miss"), which knows
;; every case and every errno. A call that succeeds here must be one that would have succeeded there.
;;
;; There are two memories. $guest is the guest's: every pointer is compared with its size before any use. $own cannot
;; be addressed by the guest; the host writes it only while the guest stands still in a host call (one word excepted).
;;
;;   $own                                       written by    meaning
;;   0        u32   descriptors                 host          entries that may be looked at; 0: everything misses. The
;;                                                            host may set it to 0 at any time, from any thread
;;   4        u32   filestat size               host          64, or 56 in wasi_unstable
;;   8        3 u32 whence                      host          the numbers of "set", "from the cursor", "from the end"
;;   20       u32   iovecs                      host          most of one call that is answered here, up to 65536
;;   24       u32   random next                 both          address of the next byte in the random pool
;;   28       u32   random end                  host          address behind its last byte
;;   32       15 u64 calls answered here        here          in the order of the table
;;   152      u64   bytes read                  here
;;   160      u64   bytes written               here
;;   168      3 u32 arguments                   host          address, 0: not published; how many strings; how many bytes
;;                                                            they have, each with its NUL. At the address one u32 for
;;                                                            each string, its offset among the bytes, then the bytes
;;   184      3 u32 environment                 host          the same
;;
;;   0x100    2 clocks of 32 bytes: realtime, monotonic
;;      +0    u32   who knows the time          host          0: Python; 1: wasmtime; 2: it is kept here
;;      +8    u64   offset, or least            host          added to what wasmtime says; the least that is told of a
;;                                                            time that is kept here
;;      +16   u64   told                        here          the last time of wasmtime's that was given to the guest
;;      +24   u64   resolution                  host          as the guest gets it
;;   0x140    u64   wasmtime's answer           wasmtime
;;   0x148    u64   the time that is kept here  both          of both clocks; at most 2**63 - 1
;;   0x150    u64   step                        host          what each look moves it by; at most 2**63 - 1
;;
;;   0x1000   1024 descriptors of 64 bytes
;;      +0    u32   file                        host          address of its file below, 0: not published as a file
;;      +4    u32   stream                      host          address of its stream below, 0: not published as a stream
;;      +8    u64   cursor                      both          below 2**63. While a descriptor is published, its only one
;;      +16   24 bytes fdstat                   host          as the guest gets it; +24 are the rights
;;      +40   u32   writing                     host          0: Python writes; 1: at the cursor; 2: at the end
;;      +44   u32   fdstat is current           host          0: Python is asked
;;
;;   0x11000  256 files of 128 bytes: one for each inode, whatever number of descriptors it has
;;      +0    u64   size                        both          of the file in bytes, below 2**63
;;      +8    u64   start                       host          offset in the file at which the window starts
;;      +16   u64   valid                       both          so many bytes of the window are the file's contents
;;      +24   u64   room                        host          so many bytes of it may be written; the space in the store
;;                                                            behind them is reserved. start + room < 2**63
;;      +32   u64   dirty from                  both    }     offsets in the file: what the store does not have yet.
;;      +40   u64   dirty to                    both    }     Within the valid part; both 0 if there is nothing
;;      +48   u32   window                      host          address; the window's bytes are this file's alone
;;      +52   u32   lease                       both          calls answered here until Python wants to look at the
;;                                                            file again
;;      +56   u32   flags                       host          1: dirty bytes must touch each other; 2: Python decides
;;                                                            where the file ends (others may have changed it)
;;      +60   u32   filestat is current         both          0: Python is asked, for a write changed the times
;;      +64   64 bytes filestat                 host          as the guest gets it
;;
;;   0x19000  16 streams of 16 bytes: captured output
;;      +0    u32   next                        both          address at which the next bytes go
;;      +4    u32   end                         host          address behind the room for them
;;
;;   0x1a000  random pool
;;   0x20000  iovecs of the call at hand, 512 KiB
;;   0xa0000  windows and stream buffers, up to the end of the memory
(module
  (import "python" "fd_read" (func $python_fd_read (param i32 i32 i32 i32) (result i32)))
  (import "python" "fd_write" (func $python_fd_write (param i32 i32 i32 i32) (result i32)))
  (import "python" "fd_pread" (func $python_fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "python" "fd_pwrite" (func $python_fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "python" "fd_seek" (func $python_fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "python" "fd_tell" (func $python_fd_tell (param i32 i32) (result i32)))
  (import "python" "fd_fdstat_get" (func $python_fd_fdstat_get (param i32 i32) (result i32)))
  (import "python" "fd_filestat_get" (func $python_fd_filestat_get (param i32 i32) (result i32)))
  (import "python" "random_get" (func $python_random_get (param i32 i32) (result i32)))
  (import "python" "args_get" (func $python_args_get (param i32 i32) (result i32)))
  (import "python" "args_sizes_get" (func $python_args_sizes_get (param i32 i32) (result i32)))
  (import "python" "environ_get" (func $python_environ_get (param i32 i32) (result i32)))
  (import "python" "environ_sizes_get" (func $python_environ_sizes_get (param i32 i32) (result i32)))
  (import "python" "clock_time_get" (func $python_clock_time_get (param i32 i64 i32) (result i32)))
  (import "python" "clock_res_get" (func $python_clock_res_get (param i32 i32) (result i32)))
  (import "vdso" "memory" (memory $own 11))
  (import "guest" "memory" (memory $guest 0))
  (import "shim" "functions" (table 15 funcref))
  ;; wasmtime's own, which writes to the memory that its caller exports: $own.
  (import "wasmtime" "clock_time_get" (func $wasmtime_clock_time_get (param i32 i64 i32) (result i32)))
  (export "memory" (memory $own))

  ;; From here on the guest's calls come here.
  (elem (i32.const 0) func $fd_read $fd_write $fd_pread $fd_pwrite $fd_seek $fd_tell $fd_fdstat_get $fd_filestat_get
    $random_get $args_get $args_sizes_get $environ_get $environ_sizes_get
    $clock_time_get $clock_res_get)

  ;; What a call does with one iovec stands in `read` and `write` themselves: nearly every call has one, and a call
  ;; within this module costs as much as the work. Several go through `total`, `scatter` and `gather`.

  ;; Several iovecs: copied to 0x20000 (a buffer may lie over the array, and the call means the array as it was),
  ;; checked, and added up. -1: miss, also for no bytes at all, and for more than a count can tell.
  (func $total (param $iovs i32) (param $count i32) (result i64)
    (local $limit i64) (local $at i32) (local $end i32) (local $length i64) (local $sum i64)
    (local.set $limit (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16)))
    (if (i32.gt_u (local.get $count) (i32.load $own (i32.const 20))) (then (return (i64.const -1))))
    (if (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $iovs)) (i64.shl (i64.extend_i32_u (local.get $count)) (i64.const 3)))
          (local.get $limit))
      (then (return (i64.const -1))))
    (memory.copy $own $guest (i32.const 0x20000) (local.get $iovs) (i32.shl (local.get $count) (i32.const 3)))
    (local.set $at (i32.const 0x20000))
    (local.set $end (i32.add (local.get $at) (i32.shl (local.get $count) (i32.const 3))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $length (i64.load32_u $own offset=4 (local.get $at)))
        (if (i64.ne (local.get $length) (i64.const 0))
          (then
            (if (i64.gt_u (i64.add (i64.load32_u $own (local.get $at)) (local.get $length)) (local.get $limit))
              (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (local.get $length)))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next)))
    (select (i64.const -1) (local.get $sum)
      (i32.or (i64.eqz (local.get $sum)) (i64.gt_u (local.get $sum) (i64.const 0xFFFFFFFF)))))

  ;; Copy `bytes` from $own at `from` into the buffers that `total` has checked.
  (func $scatter (param $from i32) (param $bytes i32)
    (local $at i32) (local $length i32)
    (local.set $at (i32.const 0x20000))
    (loop $next
      (if (local.get $bytes)
        (then
          (local.set $length (i32.load $own offset=4 (local.get $at)))
          (if (i32.gt_u (local.get $length) (local.get $bytes)) (then (local.set $length (local.get $bytes))))
          (if (local.get $length)
            (then
              (memory.copy $guest $own (i32.load $own (local.get $at)) (local.get $from) (local.get $length))))
          (local.set $from (i32.add (local.get $from) (local.get $length)))
          (local.set $bytes (i32.sub (local.get $bytes) (local.get $length)))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br $next)))))

  ;; Copy `bytes`, all that the buffers hold which `total` has checked, to $own at `to`.
  (func $gather (param $to i32) (param $bytes i32)
    (local $at i32) (local $length i32)
    (local.set $at (i32.const 0x20000))
    (loop $next
      (if (local.get $bytes)
        (then
          (local.set $length (i32.load $own offset=4 (local.get $at)))
          (if (local.get $length)
            (then
              (memory.copy $own $guest (local.get $to) (i32.load $own (local.get $at)) (local.get $length))))
          (local.set $to (i32.add (local.get $to) (local.get $length)))
          (local.set $bytes (i32.sub (local.get $bytes) (local.get $length)))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br $next)))))

  ;; Bytes read from `file` at `offset` into the buffers; -1: miss.
  (func $read (param $file i32) (param $offset i64) (param $iovs i32) (param $count i32) (result i64)
    (local $lease i32) (local $wanted i64) (local $size i64) (local $within i64) (local $limit i64)
    (local $buffer i32) (local $from i32)
    (if (i32.eqz (local.tee $lease (i32.load $own offset=52 (local.get $file)))) (then (return (i64.const -1))))
    (if (i32.eq (local.get $count) (i32.const 1))
      (then
        (local.set $limit (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16)))
        (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $iovs)) (i64.const 8)) (local.get $limit))
          (then (return (i64.const -1))))
        (local.set $buffer (i32.load $guest (local.get $iovs)))
        (local.set $wanted (i64.load32_u $guest offset=4 (local.get $iovs)))
        (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $buffer)) (local.get $wanted)) (local.get $limit))
          (then (return (i64.const -1))))
        (if (i64.eqz (local.get $wanted)) (then (return (i64.const -1)))))
      (else
        (local.set $wanted (call $total (local.get $iovs) (local.get $count)))
        (if (i64.lt_s (local.get $wanted) (i64.const 0)) (then (return (i64.const -1))))))
    (local.set $size (i64.load $own (local.get $file)))
    (if (i64.ge_u (local.get $offset) (local.get $size))
      (then
        (if (i32.and (i32.load $own offset=56 (local.get $file)) (i32.const 2)) (then (return (i64.const -1))))
        (i32.store $own offset=52 (local.get $file) (i32.sub (local.get $lease) (i32.const 1)))
        (return (i64.const 0))))
    (local.set $size (i64.sub (local.get $size) (local.get $offset)))
    (if (i64.gt_u (local.get $wanted) (local.get $size))
      (then
        (if (i32.and (i32.load $own offset=56 (local.get $file)) (i32.const 2)) (then (return (i64.const -1))))
        (local.set $wanted (local.get $size))))
    (if (i64.lt_u (local.get $offset) (i64.load $own offset=8 (local.get $file))) (then (return (i64.const -1))))
    (local.set $within (i64.sub (local.get $offset) (i64.load $own offset=8 (local.get $file))))
    ;; Neither sum can wrap: offset < size < 2**63, and wanted <= size.
    (if (i64.gt_u (i64.add (local.get $within) (local.get $wanted)) (i64.load $own offset=16 (local.get $file)))
      (then (return (i64.const -1))))
    (local.set $from (i32.add (i32.load $own offset=48 (local.get $file)) (i32.wrap_i64 (local.get $within))))
    (if (i32.eq (local.get $count) (i32.const 1))
      (then
        (if (i64.eq (local.get $wanted) (i64.const 16))
          (then
            (i64.store $guest (local.get $buffer) (i64.load $own (local.get $from)))
            (i64.store $guest offset=8 (local.get $buffer) (i64.load $own offset=8 (local.get $from))))
          (else
            (memory.copy $guest $own (local.get $buffer) (local.get $from) (i32.wrap_i64 (local.get $wanted))))))
      (else (call $scatter (local.get $from) (i32.wrap_i64 (local.get $wanted)))))
    (i32.store $own offset=52 (local.get $file) (i32.sub (local.get $lease) (i32.const 1)))
    (i64.store $own (i32.const 152) (i64.add (i64.load $own (i32.const 152)) (local.get $wanted)))
    (local.get $wanted))

  ;; Bytes written to `file` at `offset` from the buffers, all of them; -1: miss.
  (func $write (param $file i32) (param $offset i64) (param $iovs i32) (param $count i32) (result i64)
    (local $lease i32) (local $bytes i64) (local $within i64) (local $end i64) (local $dirty_end i64)
    (local $limit i64) (local $buffer i32) (local $to i32)
    (if (i32.eqz (local.tee $lease (i32.load $own offset=52 (local.get $file)))) (then (return (i64.const -1))))
    (if (i32.eq (local.get $count) (i32.const 1))
      (then
        (local.set $limit (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16)))
        (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $iovs)) (i64.const 8)) (local.get $limit))
          (then (return (i64.const -1))))
        (local.set $buffer (i32.load $guest (local.get $iovs)))
        (local.set $bytes (i64.load32_u $guest offset=4 (local.get $iovs)))
        (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $buffer)) (local.get $bytes)) (local.get $limit))
          (then (return (i64.const -1))))
        (if (i64.eqz (local.get $bytes)) (then (return (i64.const -1)))))
      (else
        (local.set $bytes (call $total (local.get $iovs) (local.get $count)))
        (if (i64.lt_s (local.get $bytes) (i64.const 0)) (then (return (i64.const -1))))))
    (if (i64.lt_u (local.get $offset) (i64.load $own offset=8 (local.get $file))) (then (return (i64.const -1))))
    ;; It may start right behind the valid part, which then grows, but not leave a gap.
    (local.set $within (i64.sub (local.get $offset) (i64.load $own offset=8 (local.get $file))))
    (if (i64.gt_u (local.get $within) (i64.load $own offset=16 (local.get $file))) (then (return (i64.const -1))))
    (if (i64.gt_u (i64.add (local.get $within) (local.get $bytes)) (i64.load $own offset=24 (local.get $file)))
      (then (return (i64.const -1))))
    (local.set $end (i64.add (local.get $offset) (local.get $bytes)))
    (local.set $dirty_end (i64.load $own offset=40 (local.get $file)))
    (if (i32.and (i32.load $own offset=56 (local.get $file)) (i64.ne (local.get $dirty_end) (i64.const 0)))
      (then
        (if (i64.gt_u (local.get $offset) (local.get $dirty_end)) (then (return (i64.const -1))))
        (if (i64.lt_u (local.get $end) (i64.load $own offset=32 (local.get $file))) (then (return (i64.const -1))))))
    (local.set $to (i32.add (i32.load $own offset=48 (local.get $file)) (i32.wrap_i64 (local.get $within))))
    (if (i32.eq (local.get $count) (i32.const 1))
      (then
        (if (i64.eq (local.get $bytes) (i64.const 16))
          (then
            (i64.store $own (local.get $to) (i64.load $guest (local.get $buffer)))
            (i64.store $own offset=8 (local.get $to) (i64.load $guest offset=8 (local.get $buffer))))
          (else
            (memory.copy $own $guest (local.get $to) (local.get $buffer) (i32.wrap_i64 (local.get $bytes))))))
      (else (call $gather (local.get $to) (i32.wrap_i64 (local.get $bytes)))))
    (if (i64.eqz (local.get $dirty_end))
      (then
        (i64.store $own offset=32 (local.get $file) (local.get $offset))
        (i64.store $own offset=40 (local.get $file) (local.get $end)))
      (else
        (if (i64.lt_u (local.get $offset) (i64.load $own offset=32 (local.get $file)))
          (then (i64.store $own offset=32 (local.get $file) (local.get $offset))))
        (if (i64.gt_u (local.get $end) (local.get $dirty_end))
          (then (i64.store $own offset=40 (local.get $file) (local.get $end))))))
    (local.set $within (i64.add (local.get $within) (local.get $bytes)))
    (if (i64.gt_u (local.get $within) (i64.load $own offset=16 (local.get $file)))
      (then (i64.store $own offset=16 (local.get $file) (local.get $within))))
    (if (i64.gt_u (local.get $end) (i64.load $own (local.get $file)))
      (then (i64.store $own (local.get $file) (local.get $end))))
    (i32.store $own offset=60 (local.get $file) (i32.const 0))
    (i32.store $own offset=52 (local.get $file) (i32.sub (local.get $lease) (i32.const 1)))
    (i64.store $own (i32.const 160) (i64.add (i64.load $own (i32.const 160)) (local.get $bytes)))
    (local.get $bytes))

  ;; Bytes added to a stream's buffer, all of them; -1: miss.
  (func $put (param $stream i32) (param $iovs i32) (param $count i32) (result i64)
    (local $bytes i64) (local $next i32) (local $limit i64) (local $buffer i32)
    (if (i32.eq (local.get $count) (i32.const 1))
      (then
        (local.set $limit (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16)))
        (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $iovs)) (i64.const 8)) (local.get $limit))
          (then (return (i64.const -1))))
        (local.set $buffer (i32.load $guest (local.get $iovs)))
        (local.set $bytes (i64.load32_u $guest offset=4 (local.get $iovs)))
        (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $buffer)) (local.get $bytes)) (local.get $limit))
          (then (return (i64.const -1))))
        (if (i64.eqz (local.get $bytes)) (then (return (i64.const -1)))))
      (else
        (local.set $bytes (call $total (local.get $iovs) (local.get $count)))
        (if (i64.lt_s (local.get $bytes) (i64.const 0)) (then (return (i64.const -1))))))
    (local.set $next (i32.load $own (local.get $stream)))
    (if (i64.gt_u
          (local.get $bytes)
          (i64.extend_i32_u (i32.sub (i32.load $own offset=4 (local.get $stream)) (local.get $next))))
      (then (return (i64.const -1))))
    (if (i32.eq (local.get $count) (i32.const 1))
      (then (memory.copy $own $guest (local.get $next) (local.get $buffer) (i32.wrap_i64 (local.get $bytes))))
      (else (call $gather (local.get $next) (i32.wrap_i64 (local.get $bytes)))))
    (i32.store $own (local.get $stream) (i32.add (local.get $next) (i32.wrap_i64 (local.get $bytes))))
    (i64.store $own (i32.const 160) (i64.add (i64.load $own (i32.const 160)) (local.get $bytes)))
    (local.get $bytes))

  (func $fd_read (param $fd i32) (param $iovs i32) (param $count i32) (param $result i32) (result i32)
    (local $descriptor i32) (local $file i32) (local $done i64)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (local.tee $file (i32.load $own (local.get $descriptor)))))
      (br_if $miss (i32.eqz (i32.and (i32.load $own offset=24 (local.get $descriptor)) (i32.const 0x2))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 4))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (local.set $done
        (call $read (local.get $file) (i64.load $own offset=8 (local.get $descriptor))
          (local.get $iovs) (local.get $count)))
      (br_if $miss (i64.lt_s (local.get $done) (i64.const 0)))
      (i64.store $own offset=8 (local.get $descriptor)
        (i64.add (i64.load $own offset=8 (local.get $descriptor)) (local.get $done)))
      (i64.store32 $guest (local.get $result) (local.get $done))
      (i64.store $own (i32.const 32) (i64.add (i64.load $own (i32.const 32)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_read (local.get $fd) (local.get $iovs) (local.get $count) (local.get $result)))

  (func $fd_write (param $fd i32) (param $iovs i32) (param $count i32) (param $result i32) (result i32)
    (local $descriptor i32) (local $file i32) (local $done i64) (local $offset i64) (local $how i32)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (i32.and (i32.load $own offset=24 (local.get $descriptor)) (i32.const 0x40))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 4))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (if (local.tee $file (i32.load $own (local.get $descriptor)))
        (then
          (br_if $miss (i32.eqz (local.tee $how (i32.load $own offset=40 (local.get $descriptor)))))
          (local.set $offset
            (select
              (i64.load $own offset=8 (local.get $descriptor))
              (i64.load $own (local.get $file))
              (i32.eq (local.get $how) (i32.const 1))))
          (local.set $done (call $write (local.get $file) (local.get $offset) (local.get $iovs) (local.get $count)))
          (br_if $miss (i64.lt_s (local.get $done) (i64.const 0)))
          (i64.store $own offset=8 (local.get $descriptor) (i64.add (local.get $offset) (local.get $done))))
        (else
          (br_if $miss (i32.eqz (local.tee $file (i32.load $own offset=4 (local.get $descriptor)))))
          (local.set $done (call $put (local.get $file) (local.get $iovs) (local.get $count)))
          (br_if $miss (i64.lt_s (local.get $done) (i64.const 0)))))
      (i64.store32 $guest (local.get $result) (local.get $done))
      (i64.store $own (i32.const 40) (i64.add (i64.load $own (i32.const 40)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_write (local.get $fd) (local.get $iovs) (local.get $count) (local.get $result)))

  (func $fd_pread (param $fd i32) (param $iovs i32) (param $count i32) (param $offset i64) (param $result i32)
    (result i32)
    (local $descriptor i32) (local $file i32) (local $done i64)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (local.tee $file (i32.load $own (local.get $descriptor)))))
      (br_if $miss
        (i32.ne (i32.and (i32.load $own offset=24 (local.get $descriptor)) (i32.const 0x6)) (i32.const 0x6)))
      (br_if $miss (i64.lt_s (local.get $offset) (i64.const 0)))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 4))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (local.set $done (call $read (local.get $file) (local.get $offset) (local.get $iovs) (local.get $count)))
      (br_if $miss (i64.lt_s (local.get $done) (i64.const 0)))
      (i64.store32 $guest (local.get $result) (local.get $done))
      (i64.store $own (i32.const 48) (i64.add (i64.load $own (i32.const 48)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_pread
      (local.get $fd) (local.get $iovs) (local.get $count) (local.get $offset) (local.get $result)))

  ;; Not with APPEND, where the offset does not count.
  (func $fd_pwrite (param $fd i32) (param $iovs i32) (param $count i32) (param $offset i64) (param $result i32)
    (result i32)
    (local $descriptor i32) (local $file i32) (local $done i64)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (local.tee $file (i32.load $own (local.get $descriptor)))))
      (br_if $miss
        (i32.ne (i32.and (i32.load $own offset=24 (local.get $descriptor)) (i32.const 0x44)) (i32.const 0x44)))
      (br_if $miss (i32.ne (i32.load $own offset=40 (local.get $descriptor)) (i32.const 1)))
      (br_if $miss (i64.lt_s (local.get $offset) (i64.const 0)))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 4))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (local.set $done (call $write (local.get $file) (local.get $offset) (local.get $iovs) (local.get $count)))
      (br_if $miss (i64.lt_s (local.get $done) (i64.const 0)))
      (i64.store32 $guest (local.get $result) (local.get $done))
      (i64.store $own (i32.const 56) (i64.add (i64.load $own (i32.const 56)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_pwrite
      (local.get $fd) (local.get $iovs) (local.get $count) (local.get $offset) (local.get $result)))

  ;; FD_TELL is enough to ask where the cursor is. An offset is signed; a result below 0, or a sum that wrapped, has the
  ;; sign bit set: cursor and size are below 2**63.
  (func $fd_seek (param $fd i32) (param $offset i64) (param $whence i32) (param $result i32) (result i32)
    (local $descriptor i32) (local $file i32) (local $right i32) (local $position i64)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (local.tee $file (i32.load $own (local.get $descriptor)))))
      (local.set $right (i32.const 0x4))
      (if (i32.eq (local.get $whence) (i32.load $own (i32.const 12)))
        (then
          (if (i64.eqz (local.get $offset)) (then (local.set $right (i32.const 0x20))))
          (local.set $position (i64.add (local.get $offset) (i64.load $own offset=8 (local.get $descriptor)))))
        (else
          (if (i32.eq (local.get $whence) (i32.load $own (i32.const 16)))
            (then
              (br_if $miss (i32.and (i32.load $own offset=56 (local.get $file)) (i32.const 2)))
              (local.set $position (i64.add (local.get $offset) (i64.load $own (local.get $file)))))
            (else
              (br_if $miss (i32.ne (local.get $whence) (i32.load $own (i32.const 8))))
              (local.set $position (local.get $offset))))))
      (br_if $miss (i32.eqz (i32.and (i32.load $own offset=24 (local.get $descriptor)) (local.get $right))))
      (br_if $miss (i64.lt_s (local.get $position) (i64.const 0)))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 8))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (i64.store $own offset=8 (local.get $descriptor) (local.get $position))
      (i64.store $guest (local.get $result) (local.get $position))
      (i64.store $own (i32.const 64) (i64.add (i64.load $own (i32.const 64)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_seek (local.get $fd) (local.get $offset) (local.get $whence) (local.get $result)))

  (func $fd_tell (param $fd i32) (param $result i32) (result i32)
    (local $descriptor i32)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (i32.load $own (local.get $descriptor))))
      (br_if $miss (i32.eqz (i32.and (i32.load $own offset=24 (local.get $descriptor)) (i32.const 0x20))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 8))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (i64.store $guest (local.get $result) (i64.load $own offset=8 (local.get $descriptor)))
      (i64.store $own (i32.const 72) (i64.add (i64.load $own (i32.const 72)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_tell (local.get $fd) (local.get $result)))

  ;; Of directories too: C libraries ask for the rights of a directory before each path that they open.
  (func $fd_fdstat_get (param $fd i32) (param $result i32) (result i32)
    (local $descriptor i32)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (i32.load $own offset=44 (local.get $descriptor))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 24))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (memory.copy $guest $own (local.get $result) (i32.add (local.get $descriptor) (i32.const 16)) (i32.const 24))
      (i64.store $own (i32.const 80) (i64.add (i64.load $own (i32.const 80)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_fdstat_get (local.get $fd) (local.get $result)))

  (func $fd_filestat_get (param $fd i32) (param $result i32) (result i32)
    (local $descriptor i32) (local $file i32) (local $lease i32) (local $size i32)
    (block $miss
      (br_if $miss (i32.ge_u (local.get $fd) (i32.load $own (i32.const 0))))
      (local.set $descriptor (i32.add (i32.const 0x1000) (i32.shl (local.get $fd) (i32.const 6))))
      (br_if $miss (i32.eqz (local.tee $file (i32.load $own (local.get $descriptor)))))
      (br_if $miss (i32.eqz (i32.load $own offset=60 (local.get $file))))
      (br_if $miss (i32.eqz (i32.and (i32.load $own offset=24 (local.get $descriptor)) (i32.const 0x200000))))
      (local.set $size (i32.load $own (i32.const 4)))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.extend_i32_u (local.get $size)))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (br_if $miss (i32.eqz (local.tee $lease (i32.load $own offset=52 (local.get $file)))))
      (i32.store $own offset=52 (local.get $file) (i32.sub (local.get $lease) (i32.const 1)))
      (memory.copy $guest $own (local.get $result) (i32.add (local.get $file) (i32.const 64)) (local.get $size))
      (i64.store $own (i32.const 88) (i64.add (i64.load $own (i32.const 88)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_fd_filestat_get (local.get $fd) (local.get $result)))

  ;; A byte of the pool is given once.
  (func $random_get (param $pointer i32) (param $length i32) (result i32)
    (local $next i32)
    (block $miss
      (local.set $next (i32.load $own (i32.const 24)))
      (br_if $miss
        (i32.gt_u (local.get $length) (i32.sub (i32.load $own (i32.const 28)) (local.get $next))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $pointer)) (i64.extend_i32_u (local.get $length)))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (br_if $miss (i32.eqz (local.get $length)))
      (memory.copy $guest $own (local.get $pointer) (local.get $next) (local.get $length))
      (memory.fill $own (local.get $next) (i32.const 0) (local.get $length))
      (i32.store $own (i32.const 24) (i32.add (local.get $next) (local.get $length)))
      (i64.store $own (i32.const 96) (i64.add (i64.load $own (i32.const 96)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_random_get (local.get $pointer) (local.get $length)))

  ;; Arguments and environment. `words`: where their three words are. 1: done, 0: miss.

  ;; The addresses of the strings to `table`, the strings to `buffer`, in this order, as Python does it: the two may
  ;; overlap. offset + buffer cannot wrap, since the byte it leads to was compared with the size of the memory.
  (func $strings (param $words i32) (param $table i32) (param $buffer i32) (result i32)
    (local $from i32) (local $bytes i32) (local $count i32) (local $limit i64)
    (if (i32.eqz (i32.load $own (i32.const 0))) (then (return (i32.const 0))))
    (if (i32.eqz (local.tee $from (i32.load $own (local.get $words)))) (then (return (i32.const 0))))
    (local.set $count (i32.load $own offset=4 (local.get $words)))
    (local.set $bytes (i32.load $own offset=8 (local.get $words)))
    (local.set $limit (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16)))
    (if (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $table)) (i64.shl (i64.extend_i32_u (local.get $count)) (i64.const 2)))
          (local.get $limit))
      (then (return (i32.const 0))))
    (if (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $buffer)) (i64.extend_i32_u (local.get $bytes)))
          (local.get $limit))
      (then (return (i32.const 0))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (i32.store $guest (local.get $table) (i32.add (local.get $buffer) (i32.load $own (local.get $from))))
        (local.set $table (i32.add (local.get $table) (i32.const 4)))
        (local.set $from (i32.add (local.get $from) (i32.const 4)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (memory.copy $guest $own (local.get $buffer) (local.get $from) (local.get $bytes))
    (i32.const 1))

  (func $strings_sizes (param $words i32) (param $count i32) (param $bytes i32) (result i32)
    (local $limit i64)
    (if (i32.eqz (i32.load $own (i32.const 0))) (then (return (i32.const 0))))
    (if (i32.eqz (i32.load $own (local.get $words))) (then (return (i32.const 0))))
    (local.set $limit (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16)))
    (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $count)) (i64.const 4)) (local.get $limit))
      (then (return (i32.const 0))))
    (if (i64.gt_u (i64.add (i64.extend_i32_u (local.get $bytes)) (i64.const 4)) (local.get $limit))
      (then (return (i32.const 0))))
    (i32.store $guest (local.get $count) (i32.load $own offset=4 (local.get $words)))
    (i32.store $guest (local.get $bytes) (i32.load $own offset=8 (local.get $words)))
    (i32.const 1))

  (func $args_get (param $first i32) (param $second i32) (result i32)
    (if (call $strings (i32.const 168) (local.get $first) (local.get $second))
      (then
        (i64.store $own (i32.const 104) (i64.add (i64.load $own (i32.const 104)) (i64.const 1)))
        (return (i32.const 0))))
    (call $python_args_get (local.get $first) (local.get $second)))

  (func $args_sizes_get (param $first i32) (param $second i32) (result i32)
    (if (call $strings_sizes (i32.const 168) (local.get $first) (local.get $second))
      (then
        (i64.store $own (i32.const 112) (i64.add (i64.load $own (i32.const 112)) (i64.const 1)))
        (return (i32.const 0))))
    (call $python_args_sizes_get (local.get $first) (local.get $second)))

  (func $environ_get (param $first i32) (param $second i32) (result i32)
    (if (call $strings (i32.const 184) (local.get $first) (local.get $second))
      (then
        (i64.store $own (i32.const 120) (i64.add (i64.load $own (i32.const 120)) (i64.const 1)))
        (return (i32.const 0))))
    (call $python_environ_get (local.get $first) (local.get $second)))

  (func $environ_sizes_get (param $first i32) (param $second i32) (result i32)
    (if (call $strings_sizes (i32.const 184) (local.get $first) (local.get $second))
      (then
        (i64.store $own (i32.const 128) (i64.add (i64.load $own (i32.const 128)) (i64.const 1)))
        (return (i32.const 0))))
    (call $python_environ_sizes_get (local.get $first) (local.get $second)))

  ;; Clocks. The guest gets no more of wasmtime's WASI than this number.

  (func $clock_time_get (param $clock i32) (param $precision i64) (param $result i32) (result i32)
    (local $words i32) (local $time i64) (local $next i64)
    (block $miss
      (br_if $miss (i32.eqz (i32.load $own (i32.const 0))))
      (br_if $miss (i32.gt_u (local.get $clock) (i32.const 1)))
      (local.set $words (i32.add (i32.const 0x100) (i32.shl (local.get $clock) (i32.const 5))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 8))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (if (i32.eq (i32.load $own (local.get $words)) (i32.const 1))
        (then
          (br_if $miss (call $wasmtime_clock_time_get (local.get $clock) (i64.const 0) (i32.const 0x140)))
          (local.set $time (i64.add (i64.load $own (i32.const 0x140)) (i64.load $own offset=8 (local.get $words))))
          (i64.store $own offset=16 (local.get $words) (local.get $time)))
        (else
          (br_if $miss (i32.ne (i32.load $own (local.get $words)) (i32.const 2)))
          (local.set $time (i64.load $own (i32.const 0x148)))
          ;; The next look finds it a step later, but never beyond 2**63 - 1. Neither is above that, so the sum cannot
          ;; wrap, and one beyond it has the sign bit set.
          (local.set $next (i64.add (local.get $time) (i64.load $own (i32.const 0x150))))
          (i64.store $own (i32.const 0x148)
            (select (i64.const 0x7FFFFFFFFFFFFFFF) (local.get $next) (i64.lt_s (local.get $next) (i64.const 0))))
          ;; What is told is no less than the least; what is kept stays as it is.
          (if (i64.lt_u (local.get $time) (i64.load $own offset=8 (local.get $words)))
            (then (local.set $time (i64.load $own offset=8 (local.get $words)))))))
      (i64.store $guest (local.get $result) (local.get $time))
      (i64.store $own (i32.const 136) (i64.add (i64.load $own (i32.const 136)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_clock_time_get (local.get $clock) (local.get $precision) (local.get $result)))

  (func $clock_res_get (param $clock i32) (param $result i32) (result i32)
    (local $words i32)
    (block $miss
      (br_if $miss (i32.eqz (i32.load $own (i32.const 0))))
      (br_if $miss (i32.gt_u (local.get $clock) (i32.const 1)))
      (local.set $words (i32.add (i32.const 0x100) (i32.shl (local.get $clock) (i32.const 5))))
      (br_if $miss (i32.eqz (i32.load $own (local.get $words))))
      (br_if $miss
        (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $result)) (i64.const 8))
          (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
      (i64.store $guest (local.get $result) (i64.load $own offset=24 (local.get $words)))
      (i64.store $own (i32.const 144) (i64.add (i64.load $own (i32.const 144)) (i64.const 1)))
      (return (i32.const 0)))
    (call $python_clock_res_get (local.get $clock) (local.get $result)))

  ;; For the host, which compares it with its own clock: the monotonic time as wasmtime counts it, -1 if it does not.
  (func (export "monotonic") (result i64)
    (if (call $wasmtime_clock_time_get (i32.const 1) (i64.const 0) (i32.const 0x140))
      (then (return (i64.const -1))))
    (i64.load $own (i32.const 0x140))))
