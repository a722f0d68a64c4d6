//go:build !wasip1

package gristmill

// Logged are the lines that were logged, in unit tests.
var Logged []string

func logLine(level uint32, line string) {
	Logged = append(Logged, []string{"debug", "info", "warn", "error"}[level]+" "+line)
}
