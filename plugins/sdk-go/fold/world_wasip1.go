package fold

import "gristmill/internal/abi"

// What the world stateful-transform exports.

//go:wasmexport gristmill:transform/fold@1.0.0#describe
func describe(settings, length uint32) uint32 { return abi.Describe(settings, length) }

//go:wasmexport cabi_post_gristmill:transform/fold@1.0.0#describe
func describeIsRead(uint32) { abi.Release() }

//go:wasmexport gristmill:transform/fold@1.0.0#apply
func apply(rows, columns, length, groups, bounds, kind, first, firstLength, second, secondLength, hasValidity, validity, validityLength uint32) uint32 {
	return abi.Fold(rows, columns, length, groups, bounds, kind, first, firstLength, second, secondLength, hasValidity, validity, validityLength)
}

//go:wasmexport cabi_post_gristmill:transform/fold@1.0.0#apply
func applyIsRead(uint32) { abi.Release() }

// What the world migrating-transform exports beside it; in the other one it is left out.

//go:wasmexport gristmill:transform/migration@1.0.0#migrate
func migrate(from, fromLength, kind, first, firstLength, second, secondLength, hasValidity, validity, validityLength uint32) uint32 {
	return abi.Migrate(from, fromLength, kind, first, firstLength, second, secondLength, hasValidity, validity, validityLength)
}

//go:wasmexport cabi_post_gristmill:transform/migration@1.0.0#migrate
func migrateIsRead(uint32) { abi.Release() }
