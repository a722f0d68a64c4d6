;; What Go's runtime and library ask of WASI preview 1, answered without a host: `wasm-tools component new --adapt wasi_snapshot_preview1=…` puts this module
;; into a component in WASI's place, so that the component imports nothing beyond the contract. Only the functions that a program uses are taken over.
;;
;; A transform is a function of settings, events and state, so there is no time, no chance and no world outside here:
;; - the clock stands at 2023-11-14T22:13:20Z when an instance begins, goes on by a microsecond each time it is read, and by as much as somebody sleeps
;;   (Go's scheduler needs a clock that goes on);
;; - random numbers are the same in every instance (Go seeds its maps with them);
;; - there are no arguments, no environment, no files and no sockets: asking for them is an error that Go's packages return;
;; - what is printed is dropped; ending the process is a trap.
;;
;; Signatures and layouts: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
;; Error numbers: 8 badf (no such descriptor), 44 noent (no such file), 52 nosys (not supported).
(module
  (import "env" "memory" (memory 0))

  ;; Nanoseconds since 1970.
  (global $now (mut i64) (i64.const 1700000000000000000))

  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $out i32) (result i32)
    (global.set $now (i64.add (global.get $now) (i64.const 1000)))
    (i64.store (local.get $out) (global.get $now))
    (i32.const 0))

  (func (export "clock_res_get") (param $clock i32) (param $out i32) (result i32)
    (i64.store (local.get $out) (i64.const 1000))
    (i32.const 0))

  ;; Waits for the first clock among the subscriptions, which takes no time: the clock goes on instead. There is nothing else to wait for.
  ;; A subscription has 48 bytes: userdata 0, tag 8 (0 for a clock), timeout 24, flags 40 (1 for an absolute time); an event 32: userdata 0, error 8, tag 10.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $n i32) (param $events i32) (result i32)
    (block $none
      (loop $next
        (br_if $none (i32.eqz (local.get $n)))
        (if (i32.eqz (i32.load8_u offset=8 (local.get $in)))
          (then
            (if (i32.and (i32.load16_u offset=40 (local.get $in)) (i32.const 1))
              (then
                (if (i64.gt_u (i64.load offset=24 (local.get $in)) (global.get $now))
                  (then (global.set $now (i64.load offset=24 (local.get $in))))))
              (else
                (global.set $now (i64.add (global.get $now) (i64.load offset=24 (local.get $in))))))
            (i64.store (local.get $out) (i64.load (local.get $in)))
            (i64.store offset=8 (local.get $out) (i64.const 0))
            (i64.store offset=16 (local.get $out) (i64.const 0))
            (i64.store offset=24 (local.get $out) (i64.const 0))
            (i32.store (local.get $events) (i32.const 1))
            (return (i32.const 0))))
        (local.set $in (i32.add (local.get $in) (i32.const 48)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
    (i32.const 52))

  ;; A linear congruential generator that begins anew each time; the upper byte of each state.
  (func (export "random_get") (param $at i32) (param $n i32) (result i32)
    (local $state i32)
    (local.set $state (i32.const 0x9e3779b9))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (local.set $state (i32.add (i32.mul (local.get $state) (i32.const 1664525)) (i32.const 1013904223)))
        (i32.store8 (local.get $at) (i32.shr_u (local.get $state) (i32.const 24)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; Says that all was written. A vector has 8 bytes: address 0, length 4.
  (func (export "fd_write") (param $fd i32) (param $vectors i32) (param $n i32) (param $out i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $n)))
        (local.set $sum (i32.add (local.get $sum) (i32.load offset=4 (local.get $vectors))))
        (local.set $vectors (i32.add (local.get $vectors) (i32.const 8)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $out) (local.get $sum))
    (i32.const 0))

  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $none))
  (export "environ_sizes_get" (func $none))
  (func (export "args_get") (param i32 i32) (result i32) (i32.const 0))
  (func (export "environ_get") (param i32 i32) (result i32) (i32.const 0))

  (func (export "sched_yield") (result i32) (i32.const 0))
  (func (export "proc_exit") (param i32) (unreachable))
  (func (export "proc_raise") (param i32) (result i32) (unreachable))

  ;; Descriptors: there are none, not even the first three. fd_prestat_get says so to a program that looks for folders.
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_close") (param i32) (result i32) (i32.const 8))
  (func (export "fd_datasync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_fdstat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_read") (param i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_sync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_tell") (param i32 i32) (result i32) (i32.const 8))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (i32.const 8))

  ;; Files: there are none.
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 44))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 44))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 44))
)
