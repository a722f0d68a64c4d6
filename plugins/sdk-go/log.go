package gristmill

import "fmt"

// Debug writes a line for the author, while writing the transform.
func Debug(format string, arguments ...any) { logLine(0, fmt.Sprintf(format, arguments...)) }

// Info writes a normal event worth knowing.
func Info(format string, arguments ...any) { logLine(1, fmt.Sprintf(format, arguments...)) }

// Warn writes something that should be looked at.
func Warn(format string, arguments ...any) { logLine(2, fmt.Sprintf(format, arguments...)) }

// Error writes something that went wrong.
func Error(format string, arguments ...any) { logLine(3, fmt.Sprintf(format, arguments...)) }
