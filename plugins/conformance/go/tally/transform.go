// Counts and sums: what the conformance cases of state run in every language.
package main

import "gristmill"

type event struct {
	ID     string `gm:"id"`
	Action string `default:""`
	Amount *float64
}

type tally struct {
	Seen  int64
	Total float64
}

var _ = gristmill.Fold(gristmill.Spec{
	Name: "tally", Version: "1.0.0", Doc: "Counts and sums the events of an entity.", Stream: "tally", Entity: "id",
}, func(state *tally, in *event) (tally, error) {
	switch in.Action {
	case "reject":
		return tally{}, gristmill.Reject("%s asks for it", in.ID)
	case "reset":
		return tally{}, gristmill.End
	}
	state.Seen++
	if in.Amount != nil {
		state.Total += *in.Amount
	}
	return *state, nil
})

func main() {}
