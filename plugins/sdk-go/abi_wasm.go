//go:build wasip1

package gristmill

import "unsafe"

// The canonical ABI of the contract: records of 32-bit words in the module's memory. Go's own pointers have 64 bits here, so records are written word by word.

// kept holds what the host may still look at until the call is over; arena is what it writes into, used from the front.
var (
	kept  []any
	arena [][]uint64
	used  int
	over  bool
)

const blockWords = 32 * 1024

//go:wasmexport cabi_realloc
func realloc(old, oldBytes, align, bytes uint32) uint32 {
	if over {
		release()
	}
	words := int(bytes+7) / 8
	if len(arena) == 0 || len(arena[len(arena)-1])-used < words {
		arena = append(arena, make([]uint64, max(words, blockWords)))
		used = 0
	}
	block := arena[len(arena)-1]
	if words == 0 {
		return 8
	}
	to := address(&block[used])
	used += words
	if oldBytes > 0 {
		copy(slice[byte](to, bytes), slice[byte](old, oldBytes))
	}
	return to
}

func release() {
	kept = kept[:0]
	if len(arena) > 1 {
		arena = arena[:1]
	}
	used, over = 0, false
}

func address[T any](of *T) uint32 { return uint32(uintptr(unsafe.Pointer(of))) }

func slice[T any](at, length uint32) []T {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(at))), length)
}

// word reads the 32-bit word at an address.
func word(at uint32) uint32 { return *(*uint32)(unsafe.Pointer(uintptr(at))) }

// record is a piece of memory that is filled with words.
type record []uint32

func newRecord(words int) record {
	r := make(record, max(words, 1))
	kept = append(kept, r)
	return r
}

func (r record) at() uint32 { return address(&r[0]) }

// list puts pointer and length of a slice, which is kept.
func list[T any](r record, at int, items []T) {
	if len(items) > 0 {
		kept = append(kept, items)
		r[at], r[at+1] = address(&items[0]), uint32(len(items))
	} else {
		r[at], r[at+1] = 8, 0
	}
}

func text(r record, at int, s string) { list(r, at, []byte(s)) }

func texts(r record, at int, items []string) {
	inner := newRecord(len(items) * 2)
	for i, item := range items {
		text(inner, i*2, item)
	}
	r[at], r[at+1] = inner.at(), uint32(len(items))
}

func failed(message string) uint32 {
	r := newRecord(3)
	r[0] = 1
	text(r, 1, message)
	return r.at()
}

func describe(settings, length uint32) uint32 {
	if err := made.describe(string(slice[byte](settings, length))); err != nil {
		return failed(err.Error())
	}
	spec, version := made.spec, made.spec.Version
	if version == "" {
		version = "0.1.0"
	}
	r := newRecord(20)
	text(r, 1, spec.Name)
	text(r, 3, version)
	text(r, 5, spec.Doc)
	texts(r, 7, words(spec.Stream))
	texts(r, 9, words(spec.Entity))
	if spec.EventTime != "" {
		r[11] = 1
		text(r, 12, spec.EventTime)
	}
	fieldRecords(r, 14, made.inputs)
	fieldRecords(r, 16, made.outputs)
	r[18] = 8
	return r.at()
}

func fieldRecords(r record, at int, fields []field) {
	inner := newRecord(len(fields) * 10)
	for i, f := range fields {
		one := inner[i*10:]
		text(one, 0, f.name)
		one[2] = uint32(f.kind)
		if f.nullable {
			one[2] |= 1 << 8
		}
		if f.fallback != nil {
			one[3] = 1
			text(one, 4, *f.fallback)
		}
		if f.kind == kindVector {
			one[6], one[7] = 1, uint32(f.width)
		}
		text(one, 8, f.doc)
	}
	r[at], r[at+1] = inner.at(), uint32(len(fields))
}

// columnAt reads the column whose record is at an address.
func columnAt(at uint32, rows int) column {
	c := column{kind: int(byte(word(at)))}
	first, length := word(at+4), word(at+8)
	switch c.kind {
	case kindBoolean:
		c.booleans = slice[byte](first, length)
	case kindInteger, kindTimestamp:
		c.integers = slice[int64](first, length)
	case kindFloat:
		c.floats = slice[float64](first, length)
	case kindText, kindBytes:
		c.offsets, c.bytes = slice[uint32](first, length), slice[byte](word(at+12), word(at+16))
		if c.kind == kindText {
			c.cut(rows)
		}
	case kindVector:
		c.width, c.numbers = int(first), slice[float32](length, word(at+12))
	}
	if byte(word(at+20)) == 1 {
		c.valid = slice[byte](word(at+24), word(at+28))
	}
	return c
}

func columnsAt(at, length uint32, rows int) ([]column, bool) {
	columns := make([]column, length)
	for i := range columns {
		columns[i] = columnAt(at+uint32(i)*32, rows)
	}
	return columns, int(length) == len(made.inputs)
}

func putColumn(r record, c *column, rows int) {
	r[0] = uint32(c.kind)
	switch c.kind {
	case kindBoolean:
		list(r, 1, c.booleans)
	case kindInteger, kindTimestamp:
		list(r, 1, c.integers)
	case kindFloat:
		list(r, 1, c.floats)
	case kindText, kindBytes:
		list(r, 1, c.offsets)
		list(r, 3, c.bytes)
	case kindVector:
		r[1] = uint32(c.width)
		list(r, 2, c.numbers)
	}
	if c.valid != nil {
		r[5] = 1
		list(r, 6, c.valid)
	} else {
		r[6] = 8
	}
}

// putOutput writes the record `output` from a word on.
func putOutput(r record, s *sink) {
	columns := newRecord(len(s.columns) * 8)
	for i := range s.columns {
		putColumn(columns[i*8:], &s.columns[i], s.rows)
	}
	r[0], r[1], r[2] = uint32(s.rows), columns.at(), uint32(len(s.columns))
	r[3] = 1
	list(r, 4, s.origins)
	rejected := newRecord(len(s.refused) * 3)
	for i, one := range s.refused {
		rejected[i*3] = one.row
		text(rejected, i*3+1, one.reason)
	}
	r[6], r[7] = rejected.at(), uint32(len(s.refused))
}

//go:wasmexport gristmill:transform/transform@1.0.0#describe
func transformDescribe(settings, length uint32) uint32 { return describe(settings, length) }

//go:wasmexport gristmill:transform/fold@1.0.0#describe
func foldDescribe(settings, length uint32) uint32 { return describe(settings, length) }

//go:wasmexport gristmill:transform/transform@1.0.0#apply
func transformApply(rows, columns, length uint32) uint32 {
	in, fits := columnsAt(columns, length, int(rows))
	if !fits || made.apply == nil {
		return failed("the batch has other columns than the inputs, or the transform is a fold")
	}
	out := newSink(made.outputs, int(rows))
	if err := made.apply(int(rows), in, out); err != nil {
		return failed(err.Error())
	}
	r := newRecord(9)
	putOutput(r[1:], out)
	return r.at()
}

//go:wasmexport gristmill:transform/fold@1.0.0#apply
func foldApply(rows, columns, length, groups, bounds, tag, offsets, offsetsLength, bytes, bytesLength, hasValidity, validity, validityLength uint32) uint32 {
	in, fits := columnsAt(columns, length, int(rows))
	if !fits || made.fold == nil || tag != kindBytes {
		return failed("the batch has other columns than the inputs, or the transform is no fold")
	}
	states := column{kind: kindBytes, offsets: slice[uint32](offsets, offsetsLength), bytes: slice[byte](bytes, bytesLength)}
	if hasValidity == 1 {
		states.valid = slice[byte](validity, validityLength)
	}
	out := newSink(made.outputs, int(rows))
	after, err := made.fold(slice[uint32](groups, bounds), in, states, out)
	if err != nil {
		return failed(err.Error())
	}
	r := newRecord(17)
	putOutput(r[1:], out)
	putColumn(r[9:], &after, int(bounds)-1)
	return r.at()
}

//go:wasmexport cabi_post_gristmill:transform/transform@1.0.0#describe
func postTransformDescribe(uint32) { over = true }

//go:wasmexport cabi_post_gristmill:transform/transform@1.0.0#apply
func postTransformApply(uint32) { over = true }

//go:wasmexport cabi_post_gristmill:transform/fold@1.0.0#describe
func postFoldDescribe(uint32) { over = true }

//go:wasmexport cabi_post_gristmill:transform/fold@1.0.0#apply
func postFoldApply(uint32) { over = true }

//go:wasmimport gristmill:transform/log@1.0.0 write
func hostLog(level, at, length uint32)

func logLine(level uint32, line string) {
	bytes := append([]byte(line), 0)
	hostLog(level, address(&bytes[0]), uint32(len(line)))
}
