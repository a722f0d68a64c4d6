package gristmill

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

type event struct {
	ID    string `gm:"id"`
	Value *float64
	Many  int64 `default:"1"`
}

type row struct {
	Label *string
	Half  *float64
	Pair  [2]float32
	Truth bool
	Raw   []byte
	At    Timestamp
}

// forget lets a test make a transform of its own.
func forget[T any](make func() T) T {
	made = nil
	return make()
}

func batch() []column {
	texts := column{kind: kindText, offsets: []uint32{0, 1, 2, 3, 4}, bytes: []byte("abcd")}
	texts.cut(4)
	return []column{
		texts,
		{kind: kindFloat, floats: []float64{1, 2, 3, 4}, valid: []byte{0b1101}},
		{kind: kindInteger, integers: []int64{1, 0, 9, 2}},
	}
}

func TestRowsAreLoadedAndCollected(t *testing.T) {
	transform := forget(func() *Transform {
		return FlatMap(Spec{Name: "t", Entity: "id"}, func(in *event, emit func(*row)) error {
			if in.Many == 9 {
				emit(&row{})
				return Reject("%s has too many", in.ID)
			}
			for i := range in.Many {
				out := row{Pair: [2]float32{float32(i), -1}, Truth: i == 0, Raw: []byte(in.ID), At: Timestamp(i)}
				if in.Value != nil {
					half := *in.Value / 2
					out.Half = &half
				} else {
					label := in.ID
					out.Label = &label
				}
				emit(&out)
			}
			return nil
		})
	})
	out := newSink(transform.outputs, 4)
	if err := transform.apply(4, batch(), out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(out.origins, []uint32{0, 3, 3}) || out.rows != 3 {
		t.Errorf("rows come from %v", out.origins)
	}
	if len(out.refused) != 1 || out.refused[0] != (refused{2, "c has too many"}) {
		t.Errorf("refused are %v", out.refused)
	}
	half, raw := &out.columns[1], &out.columns[4]
	if !half.isValid(0) || half.floats[1] != 2 || out.columns[0].isValid(2) || string(raw.bytesAt(2)) != "d" {
		t.Errorf("columns are %+v", out.columns)
	}
	if want := []float32{0, -1, 0, -1, 1, -1}; !reflect.DeepEqual(out.columns[2].numbers, want) {
		t.Errorf("vectors are %v", out.columns[2].numbers)
	}
}

func TestAPanicRefusesItsEventAlone(t *testing.T) {
	transform := forget(func() *Transform {
		return Rows(Spec{Name: "t", Entity: "id"}, func(in *event) (struct{ Value float64 }, error) {
			return struct{ Value float64 }{*in.Value}, nil
		})
	})
	out := newSink(transform.outputs, 4)
	if err := transform.apply(4, batch(), out); err != nil {
		t.Fatal(err)
	}
	if len(out.refused) != 1 || out.refused[0].row != 1 || !strings.HasPrefix(out.refused[0].reason, "panic: ") {
		t.Errorf("refused are %v", out.refused)
	}
	if !reflect.DeepEqual(out.columns[0].floats, []float64{1, 3, 4}) {
		t.Errorf("rows are %v", out.columns[0].floats)
	}
}

func TestNullsOverManyRows(t *testing.T) {
	type one struct{ Value *int64 }
	out := newSink(fieldsOf[one](), 0)
	for i := range int64(100) {
		value := one{&i}
		if i%3 == 0 {
			value.Value = nil
		}
		out.add(pointer(&value))
		if i%10 == 9 {
			// What is taken back leaves no null behind.
			null := one{}
			out.add(pointer(&null))
			out.truncate(out.rows - 1)
		}
	}
	for i := range 100 {
		if out.columns[0].isValid(i) != (i%3 != 0) {
			t.Fatalf("row %d is valid: %v", i, out.columns[0].isValid(i))
		}
	}
}

type tally struct{ Seen int64 }

func TestAStateGoesFromEventToEvent(t *testing.T) {
	transform := forget(func() *Transform {
		return Fold(Spec{Name: "t", Entity: "id"}, func(state *tally, in *event) (tally, error) {
			state.Seen++
			switch in.Many {
			case 9:
				return tally{}, errors.New("no")
			case 0:
				return tally{}, End
			}
			return *state, nil
		})
	})
	states := column{kind: kindBytes, offsets: []uint32{0, 10, 10}, bytes: []byte(`{"Seen":5}`), valid: []byte{0b01}}
	out := newSink(transform.outputs, 4)
	after, err := transform.fold([]uint32{0, 3, 4}, batch(), states, out)
	if err != nil {
		t.Fatal(err)
	}
	// The first event makes 6, the second ends the state, the third is refused; the other entity begins at 1.
	if !reflect.DeepEqual(out.columns[0].integers, []int64{6, 1}) || len(out.refused) != 1 {
		t.Errorf("rows are %v, refused %v", out.columns[0].integers, out.refused)
	}
	if after.isValid(0) || string(after.bytesAt(1)) != `{"Seen":1}` {
		t.Errorf("states are %+v", after)
	}
}

func TestSettings(t *testing.T) {
	given := struct{ Factor float64 }{2}
	transform := &Transform{spec: Spec{Entity: "id", Settings: &given}, inputs: fieldsOf[event]()}
	if err := transform.describe(`{"Factor": 3}`); err != nil || given.Factor != 3 {
		t.Errorf("%v, %v", err, given)
	}
	if err := transform.describe(`{"Facto": 3}`); err == nil || !strings.Contains(err.Error(), "Facto") {
		t.Errorf("%v", err)
	}
	transform.spec.Entity = "customer"
	if err := transform.describe(""); err == nil || err.Error() != "there is no input `customer`" {
		t.Errorf("%v", err)
	}
}

func TestNamesOfFields(t *testing.T) {
	for name, want := range map[string]string{"Price": "price", "UnitPrice": "unit_price", "URLPath": "url_path", "ID": "id", "Last4": "last4"} {
		if got := snake(name); got != want {
			t.Errorf("%s became %s, not %s", name, got, want)
		}
	}
}

func TestAFieldOfNoKindIsSaid(t *testing.T) {
	defer func() {
		if problem, ok := recover().(string); !ok || !strings.Contains(problem, "is no kind of column") {
			t.Errorf("it panicked with %v", problem)
		}
	}()
	fieldsOf[struct{ Price float32 }]()
}
