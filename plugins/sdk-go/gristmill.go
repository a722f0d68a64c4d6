// Package gristmill is for writing transforms in Go (experimental).
//
//	type Order struct {
//		Customer string
//		Price    float64
//		Quantity int64
//		Coupon   *string // may be null
//	}
//
//	type Features struct {
//		Total      float64 `doc:"Price of all pieces."`
//		Discounted bool
//	}
//
//	var _ = gristmill.Rows(gristmill.Spec{Name: "spending", Entity: "customer", Stream: "orders"}, func(order *Order) (Features, error) {
//		if order.Quantity < 1 {
//			return Features{}, gristmill.Reject("quantity is %d; at least 1 is right", order.Quantity)
//		}
//		return Features{order.Price * float64(order.Quantity), order.Coupon != nil}, nil
//	})
//
//	func main() {}
//
// The fields of the structs are those of the events and the features: Customer reads `customer`, UnitPrice reads `unit_price`, a tag `gm:"name"` says
// otherwise, `default:"1"` stands in where an event lacks the field, `doc:"…"` is for people. Types: bool, int64, float64, string, []byte, Timestamp and
// [N]float32, and pointers to them where null is legal.
package gristmill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Timestamp is a moment: microseconds since 1970-01-01T00:00:00Z.
type Timestamp int64

// Spec is what a transform says about itself, beside its fields.
type Spec struct {
	// Name of the transform and of its feature view.
	Name string
	// Version is "0.1.0" when empty.
	Version string
	// Doc says what it computes.
	Doc string
	// Stream that it reads unless the host's configuration says otherwise; several with spaces between them.
	Stream string
	// Entity is the input that is the key; several with spaces between them.
	Entity string
	// EventTime is the input, a Timestamp, that says when the event happened. Empty: the time of the stream's entry.
	EventTime string
	// Settings points to a struct with the defaults of the settings that the host's configuration may give, as JSON. Nil for none.
	Settings any
}

// Skip is returned for an event that gives no row.
var Skip = errors.New("skip")

// End is returned by a fold for an event that gives no row and ends its entity's state.
var End = errors.New("end")

type rejection struct{ reason string }

func (r rejection) Error() string { return r.reason }

// Reject is returned for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed.
func Reject(format string, arguments ...any) error {
	return rejection{fmt.Sprintf(format, arguments...)}
}

// Transform is what the contract asks for. A program makes one.
type Transform struct {
	spec            Spec
	inputs, outputs []field
	apply           func(rows int, in []column, out *sink) error
	fold            func(groups []uint32, in []column, states column, out *sink) (column, error)
}

var made *Transform

func register(t *Transform) *Transform {
	if made != nil {
		panic("this program makes two transforms; a component is one")
	}
	made = t
	return t
}

// Rows makes a transform of a function of one event, which returns its row.
func Rows[I, O any](spec Spec, function func(*I) (O, error)) *Transform {
	return FlatMap(spec, func(in *I, emit func(*O)) error {
		out, err := function(in)
		if err == nil {
			emit(&out)
		}
		return err
	})
}

// FlatMap makes a transform of a function of one event, which emits as many rows as it likes.
func FlatMap[I, O any](spec Spec, function func(in *I, emit func(*O)) error) *Transform {
	t := &Transform{spec: spec, inputs: fieldsOf[I](), outputs: fieldsOf[O]()}
	t.apply = func(rows int, in []column, out *sink) error {
		var event I
		emit := func(row *O) { out.add(pointer(row)) }
		for row := 0; row < rows; row++ {
			load(t.inputs, in, row, pointer(&event))
			out.row = uint32(row)
			before := out.rows
			out.settle(before, guarded(func() error { return function(&event, emit) }))
		}
		return nil
	}
	return register(t)
}

// Fold makes a stateful transform: the function is called for one event of an entity after the other, in order, with the state that the host keeps for that
// entity, zero at first. S is kept as JSON. What was done to the state itself (not behind pointers in it) for an event that is refused is undone.
func Fold[S, I, O any](spec Spec, function func(state *S, in *I) (O, error)) *Transform {
	t := &Transform{spec: spec, inputs: fieldsOf[I](), outputs: fieldsOf[O]()}
	t.fold = func(groups []uint32, in []column, states column, out *sink) (column, error) {
		after := column{kind: kindBytes, offsets: []uint32{0}}
		for group := 0; group+1 < len(groups); group++ {
			var state S
			ended := !states.isValid(group)
			if !ended {
				if err := json.Unmarshal(states.bytesAt(group), &state); err != nil {
					return after, fmt.Errorf("a kept state cannot be read: %w", err)
				}
			}
			for row := groups[group]; row < groups[group+1]; row++ {
				var event I
				load(t.inputs, in, int(row), pointer(&event))
				out.row = row
				before, rows := state, out.rows
				err := guarded(func() error {
					made, err := function(&state, &event)
					if err == nil {
						out.add(pointer(&made))
					}
					return err
				})
				if out.settle(rows, err) {
					state = before
				} else if ended = err == End; ended {
					state = *new(S)
				}
			}
			if ended {
				after.setNull(group, len(groups)-1)
			} else {
				kept, err := json.Marshal(state)
				if err != nil {
					return after, fmt.Errorf("a state cannot be kept: %w", err)
				}
				after.bytes = append(after.bytes, kept...)
			}
			after.offsets = append(after.offsets, uint32(len(after.bytes)))
		}
		return after, nil
	}
	return register(t)
}

// guarded turns a panic into an error of its event.
func guarded(call func() error) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	return call()
}

// describe reads the settings and checks what the author says.
func (t *Transform) describe(settings string) error {
	if strings.TrimSpace(settings) != "" {
		if t.spec.Settings == nil {
			return errors.New("this transform takes no settings")
		}
		decoder := json.NewDecoder(bytes.NewReader([]byte(settings)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(t.spec.Settings); err != nil {
			return fmt.Errorf("cannot use the settings: %w", err)
		}
	}
	for _, name := range append(words(t.spec.Entity), words(t.spec.EventTime)...) {
		if !hasField(t.inputs, name) {
			return fmt.Errorf("there is no input `%s`", name)
		}
	}
	return nil
}

func words(text string) []string { return strings.Fields(text) }
