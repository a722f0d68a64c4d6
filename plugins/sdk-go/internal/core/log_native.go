//go:build !wasip1

package core

import "os"

// Log writes a line to the standard error, or to who runs a transform in a test.
func Log(level Level, line string) {
	line = level.String() + " " + line
	if logged == nil {
		os.Stderr.WriteString(line + "\n")
		return
	}
	*logged = append(*logged, line)
}
