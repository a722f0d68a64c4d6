// Package fold is for writing stateful transforms in Go: a function of one event of an entity after the other, in order, with the state that the host keeps.
//
//	type State struct {
//		Seen int64
//	}
//
//	var _ = fold.Transform(fold.Spec{Name: "spending", Stream: "orders", Entity: "customer"}, func(state *State, order Order) (*State, Features, error) {
//		if state == nil { // the customer's first order
//			state = &State{}
//		}
//		state.Seen++
//		return state, Features{Seen: state.Seen}, nil
//	})
//
//	func main() {}
//
// Fields are written as for the package gristmill. What is returned beside the row is the new state; nil ends it. With Skip as the error there is no row, and
// the new state is kept; with any other error, or a panic, the event is refused and the state stays as it was before it, whatever the function has done to it.
//
// A state is kept as JSON, one of type []byte as it is, and one with MarshalBinary and UnmarshalBinary as they say. Only the state lasts: a variable of the
// program is lost whenever the host likes.
package fold

import "gristmill/internal/core"

// Spec is what a transform says about itself, beside its fields.
type Spec = core.Spec

// Timestamp is a moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
type Timestamp = core.Timestamp

// Skip is returned for an event that gives no row; its state is kept.
var Skip = core.Skip

// Reject makes the error that refuses an event with a reason. Any other error, fmt.Errorf's for instance, does so too.
func Reject(reason string) error { return core.Reject(reason) }

// Folds is a stateful transform.
type Folds[S, I, O any] = core.Folds[S, I, O]

// Transform makes a stateful transform of a function of one event, which returns the new state and a row. The state is nil for an entity that has none.
func Transform[S, I, O any](spec Spec, function func(state *S, event I) (*S, O, error)) *Folds[S, I, O] {
	return core.OneRowFold(spec, codecOf[S](), function)
}

// TransformMany makes a stateful transform of a function of one event, which returns the new state and as many rows as it likes.
func TransformMany[S, I, O any](spec Spec, function func(state *S, event I) (*S, []O, error)) *Folds[S, I, O] {
	return core.ManyRowsFold(spec, codecOf[S](), function)
}

// Debug writes a line for the author, while writing the transform.
func Debug(line string) { core.Log(core.LevelDebug, line) }

// Info writes a normal event worth knowing.
func Info(line string) { core.Log(core.LevelInfo, line) }

// Warn writes something that should be looked at.
func Warn(line string) { core.Log(core.LevelWarn, line) }

// Error writes something that went wrong. To refuse an event, return an error.
func Error(line string) { core.Log(core.LevelError, line) }
