package gristmill

import "gristmill/internal/core"

// Debug writes a line for the author, while writing the transform.
func Debug(line string) { core.Log(core.LevelDebug, line) }

// Info writes a normal event worth knowing.
func Info(line string) { core.Log(core.LevelInfo, line) }

// Warn writes something that should be looked at.
func Warn(line string) { core.Log(core.LevelWarn, line) }

// Error writes something that went wrong. To refuse an event, return an error.
func Error(line string) { core.Log(core.LevelError, line) }
