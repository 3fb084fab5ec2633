;; What a guest imports in place of the calls that have a fast path.
;;
;; A guest has to be instantiated before its memory can be given to anybody, so it cannot import functions of a module
;; that works on this memory. It imports these instead. Each jumps through one slot of a table, which leads to Python
;; until vdso.wat is instantiated and puts its own functions there. Slots are in the order of the exports.
(module
  (import "python" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "python" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "python" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "python" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "python" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "python" "fd_tell" (func $fd_tell (param i32 i32) (result i32)))
  (import "python" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
  (import "python" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "python" "random_get" (func $random_get (param i32 i32) (result i32)))

  (type $transfer (func (param i32 i32 i32 i32) (result i32)))
  (type $transfer_at (func (param i32 i32 i32 i64 i32) (result i32)))
  (type $seek (func (param i32 i64 i32 i32) (result i32)))
  (type $ask (func (param i32 i32) (result i32)))

  (table (export "functions") 9 9 funcref)
  (elem (i32.const 0) func $fd_read $fd_write $fd_pread $fd_pwrite $fd_seek $fd_tell $fd_fdstat_get $fd_filestat_get
    $random_get)

  (func (export "fd_read") (type $transfer)
    (call_indirect (type $transfer)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 0)))
  (func (export "fd_write") (type $transfer)
    (call_indirect (type $transfer)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 1)))
  (func (export "fd_pread") (type $transfer_at)
    (call_indirect (type $transfer_at)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (i32.const 2)))
  (func (export "fd_pwrite") (type $transfer_at)
    (call_indirect (type $transfer_at)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (i32.const 3)))
  (func (export "fd_seek") (type $seek)
    (call_indirect (type $seek)
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 4)))
  (func (export "fd_tell") (type $ask)
    (call_indirect (type $ask) (local.get 0) (local.get 1) (i32.const 5)))
  (func (export "fd_fdstat_get") (type $ask)
    (call_indirect (type $ask) (local.get 0) (local.get 1) (i32.const 6)))
  (func (export "fd_filestat_get") (type $ask)
    (call_indirect (type $ask) (local.get 0) (local.get 1) (i32.const 7)))
  (func (export "random_get") (type $ask)
    (call_indirect (type $ask) (local.get 0) (local.get 1) (i32.const 8))))
