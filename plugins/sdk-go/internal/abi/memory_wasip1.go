package abi

import "unsafe"

// arena is where the host writes what it hands over: Go's own memory, which does not move, and is kept by this variable until the call is over.
var arena struct {
	blocks [][]uint64
	used   int // words of the last block
}

// kept keeps what the host reads after a call has returned.
var kept []unsafe.Pointer

const (
	blockWords = 64 << 10 / 8
	// What a larger batch has taken is given back.
	arenaWordsMax = 4 << 20 / 8
)

// nowhere is the address of what has no bytes; it is aligned, and not null.
const nowhere = 8

//go:wasmexport cabi_realloc
func realloc(old, oldBytes, align, bytes uint32) uint32 {
	if bytes == 0 {
		return nowhere
	}
	words := int((uint64(bytes) + 7) / 8) // the contract's alignments go up to 8
	if last := len(arena.blocks) - 1; last < 0 || len(arena.blocks[last])-arena.used < words {
		arena.blocks = append(arena.blocks, make([]uint64, max(words, blockWords<<min(len(arena.blocks), 6))))
		arena.used = 0
	}
	block := arena.blocks[len(arena.blocks)-1][arena.used:]
	arena.used += words
	at := address(&block[0])
	if oldBytes > 0 {
		copy(slice[byte](list{at, bytes}), slice[byte](list{old, oldBytes}))
	}
	return at
}

// Release ends a call: the host has read what it wants, and what it wrote is no longer needed.
func Release() {
	clear(kept)
	kept = kept[:0]
	words := 0
	for _, block := range arena.blocks {
		words += len(block)
	}
	if len(arena.blocks) > 1 || words > arenaWordsMax {
		// One block that would have been enough.
		arena.blocks = arena.blocks[:0:0]
		if words <= arenaWordsMax {
			arena.blocks = append(arena.blocks, make([]uint64, words))
		}
	}
	arena.used = 0
}

func address[T any](of *T) uint32 { return uint32(uintptr(unsafe.Pointer(of))) }

// slice is the list at an address. Only as long as the call lasts.
func slice[T any](of list) []T {
	if of.length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Add(nil, of.at)), of.length)
}

// keep keeps a value until the call is over, and gives its address.
func keep[T any](value *T) uint32 {
	kept = append(kept, unsafe.Pointer(value))
	return address(value)
}

// listOf keeps a slice until the call is over.
func listOf[T any](items []T) list {
	if len(items) == 0 {
		return list{nowhere, 0}
	}
	return list{keep(&items[0]), uint32(len(items))}
}

func textOf(text string) list { return listOf(unsafe.Slice(unsafe.StringData(text), len(text))) }

func textsOf(texts []string) list {
	lists := make([]list, len(texts))
	for i, text := range texts {
		lists[i] = textOf(text)
	}
	return listOf(lists)
}
