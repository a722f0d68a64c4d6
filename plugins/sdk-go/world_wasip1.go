package gristmill

import "gristmill/internal/abi"

// What the world row-transform exports.

//go:wasmexport gristmill:transform/transform@1.0.0#describe
func describe(settings, length uint32) uint32 { return abi.Describe(settings, length) }

//go:wasmexport cabi_post_gristmill:transform/transform@1.0.0#describe
func describeIsRead(uint32) { abi.Release() }

//go:wasmexport gristmill:transform/transform@1.0.0#apply
func apply(rows, columns, length uint32) uint32 { return abi.Apply(rows, columns, length) }

//go:wasmexport cabi_post_gristmill:transform/transform@1.0.0#apply
func applyIsRead(uint32) { abi.Release() }
