;; What is added to the module that turns the contract's types into calls of QuickJS's runtime. `{…}` stands for the index of what it imports, and for
;; the number of the type of lists of bytes. In the order of `Call`.
(module
  ;; A list of 32-bit numbers, as its bytes.
  (func (param $context i32) (param $type i32) (param $start i32) (param $length i32) (result i32)
    (call {push_list} (local.get $context) (i32.const {bytes}) (local.get $start) (i32.shl (local.get $length) (i32.const 2))))

  ;; A list of 64-bit floats, as its bytes.
  (func (param $context i32) (param $type i32) (param $start i32) (param $length i32) (result i32)
    (call {push_list} (local.get $context) (i32.const {bytes}) (local.get $start) (i32.shl (local.get $length) (i32.const 3))))

  ;; A list of 64-bit integers: as 32-bit ones where all are such, else as floats.
  (func (param $context i32) (param $type i32) (param $start i32) (param $length i32) (result i32)
    (local $from i32) (local $to i32) (local $end i32) (local $value i64)
    (local.set $end (i32.add (local.get $start) (i32.shl (local.get $length) (i32.const 3))))
    (block $wide
      (local.set $from (local.get $start))
      (block $narrow
        (loop $next
          (br_if $narrow (i32.ge_u (local.get $from) (local.get $end)))
          (local.set $value (i64.load (local.get $from)))
          (br_if $wide (i64.ne (local.get $value) (i64.extend_i32_s (i32.wrap_i64 (local.get $value)))))
          (local.set $from (i32.add (local.get $from) (i32.const 8)))
          (br $next)))
      (local.set $from (local.get $start))
      (local.set $to (local.get $start))
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
          (i32.store (local.get $to) (i32.load (local.get $from)))
          (local.set $from (i32.add (local.get $from) (i32.const 8)))
          (local.set $to (i32.add (local.get $to) (i32.const 4)))
          (br $next)))
      (return (call {push_list} (local.get $context) (i32.const {bytes}) (local.get $start) (i32.shl (local.get $length) (i32.const 2)))))
    (local.set $from (local.get $start))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
        (f64.store (local.get $from) (f64.convert_i64_s (i64.load (local.get $from))))
        (local.set $from (i32.add (local.get $from) (i32.const 8)))
        (br $next)))
    (call {push_list} (local.get $context) (i32.const {bytes}) (local.get $start) (i32.shl (local.get $length) (i32.const 3))))

  ;; The offsets of a column of text wait for its bytes.
  (func (param $context i32) (param $type i32) (param $start i32) (param $length i32) (result i32)
    (global.set {start} (local.get $start))
    (global.set {length} (local.get $length))
    (i32.const 1))

  ;; The bytes of a column of text, as one string, behind the offsets, which then count what JavaScript counts: 16 bits of UTF-16.
  (func (param $context i32) (param $type i32) (param $start i32) (param $length i32) (result i32)
    (local $at i32) (local $end i32) (local $offset i32) (local $last i32) (local $units i32) (local $byte i32) (local $seen i64)
    (local.set $at (local.get $start))
    (local.set $end (i32.add (local.get $start) (local.get $length)))
    (block $done
      (loop $next
        (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 8)) (local.get $end)))
        (local.set $seen (i64.or (local.get $seen) (i64.load align=1 (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $seen (i64.or (local.get $seen) (i64.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (if (i64.ne (i64.and (local.get $seen) (i64.const 0x8080808080808080)) (i64.const 0))
      (then
        (local.set $at (local.get $start))
        (local.set $offset (global.get {start}))
        (local.set $last (i32.add (local.get $offset) (i32.shl (global.get {length}) (i32.const 2))))
        (block $done
          (loop $value
            (br_if $done (i32.ge_u (local.get $offset) (local.get $last)))
            (local.set $end (i32.add (local.get $start) (i32.load (local.get $offset))))
            (block $counted
              (loop $next
                (br_if $counted (i32.ge_u (local.get $at) (local.get $end)))
                (local.set $byte (i32.load8_u (local.get $at)))
                ;; One for each byte that begins a character, and one more for those of four bytes.
                (local.set $units
                  (i32.add
                    (local.get $units)
                    (i32.add
                      (i32.ne (i32.and (local.get $byte) (i32.const 0xc0)) (i32.const 0x80))
                      (i32.ge_u (local.get $byte) (i32.const 0xf0)))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $next)))
            (i32.store (local.get $offset) (local.get $units))
            (local.set $offset (i32.add (local.get $offset) (i32.const 4)))
            (br $value)))))
    (drop
      (call {push_list} (local.get $context) (i32.const {bytes}) (global.get {start}) (i32.shl (global.get {length}) (i32.const 2))))
    (call {push_string} (local.get $context) (local.get $start) (local.get $length))
    (i32.const 1))

  ;; The offsets of a column of text come out before its bytes.
  (func (param $context i32) (param $type i32) (param $put i32) (result i32)
    (local $length i32)
    (local.set $length (call {pop_list} (local.get $context) (local.get $type) (local.get $put)))
    (global.set {start} (i32.load (local.get $put)))
    (global.set {length} (local.get $length))
    (local.get $length))

  ;; The bytes of a column of text out of one string; the offsets count characters till then.
  (func (param $context i32) (param $type i32) (param $put i32) (result i32)
    (local $start i32) (local $length i32) (local $at i32) (local $offset i32) (local $last i32) (local $units i32) (local $byte i32)
    (local.set $length (call {pop_string} (local.get $context) (local.get $put)))
    (local.set $start (i32.load (local.get $put)))
    (local.set $offset (global.get {start}))
    (local.set $last (i32.add (local.get $offset) (i32.shl (global.get {length}) (i32.const 2))))
    (block $done
      ;; As many bytes as characters: both count the same.
      (br_if $done (i32.eq (local.get $offset) (local.get $last)))
      (br_if $done (i32.eq (i32.load (i32.sub (local.get $last) (i32.const 4))) (local.get $length)))
      (local.set $at (local.get $start))
      (loop $value
        (block $counted
          (loop $next
            (br_if $counted (i32.ge_u (local.get $units) (i32.load (local.get $offset))))
            (br_if $counted (i32.ge_u (i32.sub (local.get $at) (local.get $start)) (local.get $length)))
            (local.set $byte (i32.load8_u (local.get $at)))
            (local.set $at
              (i32.add
                (i32.add (local.get $at) (i32.const 1))
                (i32.add
                  (i32.ge_u (local.get $byte) (i32.const 0xc0))
                  (i32.add (i32.ge_u (local.get $byte) (i32.const 0xe0)) (i32.ge_u (local.get $byte) (i32.const 0xf0))))))
            (local.set $units (i32.add (i32.add (local.get $units) (i32.const 1)) (i32.ge_u (local.get $byte) (i32.const 0xf0))))
            (br $next)))
        (i32.store (local.get $offset) (i32.sub (local.get $at) (local.get $start)))
        (local.set $offset (i32.add (local.get $offset) (i32.const 4)))
        (br_if $value (i32.lt_u (local.get $offset) (local.get $last)))))
    (local.get $length)))
