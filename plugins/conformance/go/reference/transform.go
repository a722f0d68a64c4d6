// One of everything: what the conformance cases run in every language.
package main

import (
	"slices"

	"gristmill"
	"gristmill/settings"
)

type Event struct {
	ID        string
	Action    string `default:""`
	Truth     *bool
	Whole     *int64
	Real      *float64
	Text      *string
	Blob      *[]byte
	Moment    *gristmill.Timestamp
	Embedding *[3]float32
}

type Features struct {
	Truth     *bool
	Whole     *int64
	Real      *float64 `doc:"The number, scaled."`
	Text      *string
	Blob      *[]byte
	Moment    *gristmill.Timestamp
	Embedding *[3]float32
}

var given = struct {
	Factor float64 `json:"factor"`
}{Factor: 2}

var _ = gristmill.TransformMany(gristmill.Spec{
	Name: "reference", Version: "1.0.0", Doc: "One of everything.",
	Stream: "reference", Entity: "id", Settings: settings.JSON(&given),
}, reference)

func reference(event Event) ([]Features, error) {
	switch event.Action {
	case "reject":
		return nil, gristmill.Reject(event.ID + " asks for it")
	case "skip":
		return nil, gristmill.Skip
	case "log":
		gristmill.Warn("a line about " + event.ID)
	}
	row := Features{
		Truth:     each(event.Truth, func(truth bool) bool { return !truth }),
		Whole:     each(event.Whole, func(whole int64) int64 { return ^whole }),
		Real:      each(event.Real, scaled),
		Text:      each(event.Text, func(text string) string { return "<" + text + ">" }),
		Blob:      each(event.Blob, reversed),
		Moment:    each(event.Moment, func(moment gristmill.Timestamp) gristmill.Timestamp { return moment + 1_000_000 }),
		Embedding: each(event.Embedding, scaledVector),
	}
	if event.Action == "twice" {
		return []Features{row, row}, nil
	}
	return []Features{row}, nil
}

// scaled rounds twice: without the conversion a compiler may fuse the two operations, where the machine can.
func scaled(real float64) float64 { return float64(real*given.Factor) + 0.1 }

func reversed(blob []byte) []byte {
	blob = slices.Clone(blob)
	slices.Reverse(blob)
	return blob
}

func scaledVector(embedding [3]float32) [3]float32 {
	for i, number := range embedding {
		embedding[i] = float32(float64(number) * given.Factor)
	}
	return embedding
}

// each changes a value, if there is one.
func each[T any](value *T, change func(T) T) *T {
	if value == nil {
		return nil
	}
	changed := change(*value)
	return &changed
}

func main() {}
