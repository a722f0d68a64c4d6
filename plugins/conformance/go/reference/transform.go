// One of everything: what the conformance cases run in every language.
package main

import (
	"slices"

	"gristmill"
)

type event struct {
	ID        string `gm:"id"`
	Action    string `gm:"action" default:""`
	Truth     *bool
	Whole     *int64
	Real      *float64
	Text      *string
	Blob      *[]byte
	Moment    *gristmill.Timestamp
	Embedding *[3]float32
}

type features struct {
	Truth     *bool
	Whole     *int64
	Real      *float64 `doc:"The number, scaled."`
	Text      *string
	Blob      *[]byte
	Moment    *gristmill.Timestamp
	Embedding *[3]float32
}

type settings struct {
	Factor float64 `json:"factor"`
}

var given = settings{Factor: 2}

var _ = gristmill.FlatMap(gristmill.Spec{
	Name: "reference", Version: "1.0.0", Doc: "One of everything.", Stream: "reference", Entity: "id", Settings: &given,
}, func(in *event, emit func(*features)) error {
	switch in.Action {
	case "reject":
		return gristmill.Reject("%s asks for it", in.ID)
	case "skip":
		return gristmill.Skip
	case "log":
		gristmill.Warn("a line about %s", in.ID)
	}
	row := features{
		Truth:  each(in.Truth, func(truth bool) bool { return !truth }),
		Whole:  each(in.Whole, func(whole int64) int64 { return ^whole }),
		Real:   each(in.Real, func(real float64) float64 { return float64(real*given.Factor) + 0.1 }),
		Text:   each(in.Text, func(text string) string { return "<" + text + ">" }),
		Blob:   each(in.Blob, func(blob []byte) []byte { blob = slices.Clone(blob); slices.Reverse(blob); return blob }),
		Moment: each(in.Moment, func(moment gristmill.Timestamp) gristmill.Timestamp { return moment + 1_000_000 }),
		Embedding: each(in.Embedding, func(embedding [3]float32) [3]float32 {
			for i, number := range embedding {
				embedding[i] = float32(float64(number) * given.Factor)
			}
			return embedding
		}),
	}
	emit(&row)
	if in.Action == "twice" {
		emit(&row)
	}
	return nil
})

func each[T any](value *T, change func(T) T) *T {
	if value == nil {
		return nil
	}
	changed := change(*value)
	return &changed
}

func main() {}
