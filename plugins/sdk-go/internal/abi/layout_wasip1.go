// Package abi puts the contract's calls into Go's types: the canonical ABI of components, as far as this contract needs it.
package abi

import "unsafe"

// The records of wit/transform.wit as they lie in the module's memory, where an address has 32 bits; Go's own pointers have 64 here.
// https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md

// list is a list, or a string.
type list struct{ at, length uint32 }

// option is an option<list> or option<string>.
type option struct {
	some uint8
	list
}

type packed struct{ offsets, bytes list }

type vectors struct {
	width  uint32
	values list
}

// column is a column; payload is a list, a packed or a vectors, as kind says.
type column struct {
	kind     uint8
	payload  packed
	validity option
}

func (p *packed) vectors() *vectors { return (*vectors)(unsafe.Pointer(p)) }

type batch struct {
	rows    uint32
	columns list
}

type output struct {
	batch
	origins  option
	rejected list
}

type rejection struct {
	row    uint32
	reason list
}

type field struct {
	name     list
	kind     uint8
	nullable bool
	fallback option
	hasWidth uint32
	width    uint32
	doc      list
}

// aggregate is one of the functions of windows; payload is a float64, or a uint32, as tag says.
type aggregate struct {
	tag     uint64
	payload uint64
}

type aggregation struct {
	feature, column list
	function        aggregate
	hasWindow       uint64
	windowMs        uint64
	doc             list
}

type spec struct {
	name, version, doc, streams, entity list
	eventTime                           option
	inputs, outputs, aggregations       list
}

type folded struct {
	output
	states column
}

// result is a result<T, string>.
type result[T any] struct {
	failed uint32
	value  T
}

// What the canonical ABI says about sizes; a difference does not compile.
var (
	_ [32]byte = [unsafe.Sizeof(column{})]byte{}
	_ [32]byte = [unsafe.Sizeof(output{})]byte{}
	_ [12]byte = [unsafe.Sizeof(rejection{})]byte{}
	_ [40]byte = [unsafe.Sizeof(field{})]byte{}
	_ [56]byte = [unsafe.Sizeof(aggregation{})]byte{}
	_ [36]byte = [unsafe.Sizeof(result[column]{})]byte{}
	_ [80]byte = [unsafe.Sizeof(result[spec]{})]byte{}
	_ [36]byte = [unsafe.Sizeof(result[output]{})]byte{}
	_ [68]byte = [unsafe.Sizeof(result[folded]{})]byte{}
)
