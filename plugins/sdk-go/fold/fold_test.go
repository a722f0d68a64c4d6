package fold_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"gristmill/fold"
)

type event struct {
	ID     string
	Action string
	Amount float64
}

type state struct {
	Seen    int64
	Total   float64
	Amounts map[string]float64
}

type features struct {
	Seen int64
	Note string
}

var spec = fold.Spec{Name: "tested", Entity: "id", Stream: "tests"}

// count changes the state in place before it looks at what is asked for.
func count(before *state, in event) (*state, features, error) {
	after := before
	if after == nil {
		after = &state{Amounts: map[string]float64{}}
	}
	after.Seen++
	after.Total += in.Amount
	after.Amounts[in.Action]++
	switch in.Action {
	case "reject":
		return nil, features{}, errors.New("asked for it")
	case "panic":
		panic("asked for it")
	case "skip":
		return after, features{}, fold.Skip
	case "reset":
		return nil, features{}, fold.Skip
	case "end":
		return nil, features{after.Seen, ""}, nil
	case "unclean":
		return after, features{Note: "\xff"}, nil
	}
	return after, features{Seen: after.Seen}, nil
}

func rows(result *fold.Result[features]) (seen []int64) {
	for _, row := range result.Rows {
		seen = append(seen, row.Features.Seen)
	}
	return seen
}

func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestARefusedEventLeavesTheStateAsItWas(t *testing.T) {
	result, err := fold.Transform(spec, count).Run("",
		event{"a", "", 1}, event{"a", "reject", 2}, event{"a", "panic", 4}, event{"a", "unclean", 8}, event{"a", "", math.NaN()}, event{"a", "", 16}, event{"b", "reject", 1},
	)
	if err != nil {
		t.Fatal(err)
	}
	same(t, rows(result), []int64{1, 2})
	same(t, result.States, map[string]string{"a": `{"Seen":2,"Total":17,"Amounts":{"":2}}`})
	reasons := []string{"asked for it", "panic: asked for it (fold_test.go:", "output `note` is no UTF-8", "the entity's new state cannot be kept: json: unsupported value: NaN", "asked for it"}
	for i, want := range reasons {
		if got := result.Rejected[i].Reason; !strings.HasPrefix(got, want) {
			t.Errorf("event %d was refused with %q", result.Rejected[i].Event, got)
		}
	}
	same(t, len(result.Rejected), len(reasons))
}

func TestASkippedEventChangesTheStateAndNilEndsIt(t *testing.T) {
	result, err := fold.Transform(spec, count).Run("",
		event{"a", "skip", 1}, event{"b", "skip", 1}, event{"a", "", 1}, event{"a", "reset", 0}, event{"a", "", 5}, event{"b", "end", 1},
	)
	if err != nil {
		t.Fatal(err)
	}
	same(t, rows(result), []int64{2, 1, 2})
	same(t, result.States, map[string]string{"a": `{"Seen":1,"Total":5,"Amounts":{"":1}}`})
}

func TestSeveralRowsOfOneEvent(t *testing.T) {
	result, err := fold.TransformMany(spec, func(before *int64, in event) (*int64, []features, error) {
		seen := int64(1)
		if before != nil {
			seen += *before
		}
		return &seen, make([]features, seen), nil
	}).Run("", event{ID: "a"}, event{ID: "b"}, event{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, len(result.Rows), 4)
	same(t, result.Rows[3].Event, 2)
	same(t, result.States, map[string]string{"a": "2", "b": "1"})
}

func TestBytesAreKeptAsTheyAre(t *testing.T) {
	result, err := fold.Transform(spec, func(before *[]byte, in event) (*[]byte, features, error) {
		after := []byte(in.Action)
		if before != nil {
			after = append(*before, after...)
		}
		return &after, features{}, nil
	}).Run("", event{ID: "a", Action: "\xff"}, event{ID: "a", Action: "\x00"}, event{ID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, result.States, map[string]string{"a": "\xff\x00", "b": ""})
}

type short struct{ n byte }

func (s *short) MarshalBinary() ([]byte, error) { return []byte{s.n}, nil }

func (s *short) UnmarshalBinary(kept []byte) error {
	if len(kept) != 1 {
		return errors.New("it has another length")
	}
	s.n = kept[0]
	return nil
}

func TestAStateMayMarshalItself(t *testing.T) {
	result, err := fold.Transform(spec, func(before *short, in event) (*short, features, error) {
		if before == nil {
			before = &short{}
		}
		before.n++
		return before, features{}, nil
	}).Run("", event{ID: "a"}, event{ID: "a"}, event{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, result.States, map[string]string{"a": "\x03"})
}

func TestStatesThatWouldNotLastAreRefused(t *testing.T) {
	type inner struct{ Any map[string]any }
	type leaky struct {
		Seen  int64
		cache map[string]int
		Left  int `json:"-"`
		In    []inner
	}
	_, err := fold.Transform(spec, func(before *leaky, in event) (*leaky, features, error) { return &leaky{cache: nil}, features{}, nil }).Run("")
	for _, want := range []string{"leaky.cache is not exported", "leaky.Left is tagged", "leaky.In.Any is interface {}"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}
