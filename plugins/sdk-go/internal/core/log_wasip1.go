package core

import (
	"runtime"
	"strings"
	"unsafe"
)

//go:wasmimport gristmill:transform/log@1.0.0 write
func write(level, at, length uint32)

// Log writes a line into the host's log.
func Log(level Level, line string) {
	line = strings.ToValidUTF8(line, "\uFFFD")
	write(uint32(level), uint32(uintptr(unsafe.Pointer(unsafe.StringData(line)))), uint32(len(line)))
	runtime.KeepAlive(line)
}
