package core

// Level says how much a line matters, numbered as in the contract.
type Level uint32

const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
)

func (l Level) String() string { return [...]string{"debug", "info", "warn", "error"}[l] }

// logged gets the lines while a test runs a transform natively.
var logged *[]string
