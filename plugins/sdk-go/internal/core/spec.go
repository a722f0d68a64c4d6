// Package core is what the packages gristmill and fold share: specs, columns, and the loops between columns and an author's structs. It knows no Wasm.
package core

import "errors"

// Spec is what a transform says about itself, beside its fields.
type Spec struct {
	// Name of the transform, and of its feature view unless the host's configuration gives another: ASCII letters, digits and `_`.
	Name string
	// Version is the author's, for people; "0.1.0" when empty.
	Version string
	// Doc says what it computes, for people.
	Doc string
	// Stream that it reads unless the host's configuration binds it elsewhere; several with spaces between them.
	Stream string
	// Entity is the input that is the entity's key; several, in order, with spaces between them.
	Entity string
	// EventTime is the input, a Timestamp or a time.Time, that says when the event happened. Empty: the time of the stream's entry.
	EventTime string
	// Settings gets the settings once, before any event: a JSON text, empty when there are none. An error refuses the transform when it is loaded.
	// Use settings.JSON(&yours). Nil: the transform takes no settings, and refuses any.
	Settings func(text string) error
	// Windows that the host keeps over the outputs. Made by the functions of gristmill/window.
	Windows []Window
}

// Timestamp is a moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
type Timestamp int64

// Skip is returned in place of an error for an event that gives no row.
var Skip = errors.New("this event gives no row")

type rejection string

func (r rejection) Error() string { return string(r) }

// Reject makes the error that refuses an event with a reason. Any other error does so too; this one needs no package fmt.
func Reject(reason string) error { return rejection(reason) }
