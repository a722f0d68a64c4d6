package gristmill_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"gristmill"
)

type everything struct {
	ID        string
	Truth     bool
	Whole     int64
	Count     int
	Real      float64
	Blob      []byte
	Moment    gristmill.Timestamp
	At        time.Time
	Embedding [3]float32
	Truth2    *bool
	Whole2    *int64
	Real2     *float64
	Text2     *string
	Blob2     *[]byte
	Moment2   *gristmill.Timestamp
	At2       *time.Time
	Vector2   *[2]float32
}

func ptr[T any](value T) *T { return &value }

var spec = gristmill.Spec{Name: "tested", Entity: "id", Stream: "tests"}

func run[I, O any](t *testing.T, plugin *gristmill.Rows[I, O], events ...I) *gristmill.Result[O] {
	t.Helper()
	result, err := plugin.Run("", events...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryKindComesBackAsItWent(t *testing.T) {
	full := everything{
		"ℏ", true, math.MinInt64, -7, math.Inf(-1), []byte{0, 255}, -1, time.UnixMicro(1).UTC(), [3]float32{1, -2.5, 0.1},
		ptr(false), ptr(int64(math.MaxInt64)), ptr(0.1), ptr(""), ptr([]byte{}), ptr(gristmill.Timestamp(0)), ptr(time.UnixMicro(-1).UTC()), ptr([2]float32{3, 4}),
	}
	empty := everything{ID: "a", Blob: []byte{}, At: time.UnixMicro(0).UTC()}
	var events []everything
	for range 1000 { // several runs of structs
		events = append(events, full, empty)
	}
	result := run(t, gristmill.Transform(spec, func(in everything) (everything, error) { return in, nil }), events...)
	same(t, len(result.Rows), len(events))
	for i, row := range result.Rows {
		same(t, row, gristmill.Row[everything]{Event: i, Features: events[i]})
	}
}

type number struct {
	ID string
	N  int64
}

func TestEventsAreSkippedRefusedAndRepeated(t *testing.T) {
	plugin := gristmill.TransformMany(spec, func(in number) ([]number, error) {
		switch {
		case in.N%7 == 0:
			return nil, gristmill.Skip
		case in.N%7 == 1:
			return nil, fmt.Errorf("%d is no use", in.N)
		case in.N%7 == 2:
			panic("at a loss")
		case in.N%7 == 3:
			return []number{in, in}, nil
		case in.N%7 == 4:
			return []number{in, {ID: "\xff"}}, nil
		case in.N%7 == 5:
			return nil, nil
		}
		return []number{in}, nil
	})
	var events []number
	for i := range 2100 {
		events = append(events, number{"a", int64(i)})
	}
	result := run(t, plugin, events...)
	rows, rejected := 0, 0
	for i, in := range events {
		for range map[int64]int{3: 2, 6: 1}[in.N%7] {
			same(t, result.Rows[rows], gristmill.Row[number]{Event: i, Features: in})
			rows++
		}
		reason, refused := map[int64]string{1: fmt.Sprint(i, " is no use"), 2: "panic: at a loss (rows_test.go:", 4: "output `id` is no UTF-8: \"\\xff\"; use []byte"}[in.N%7]
		if refused {
			same(t, result.Rejected[rejected].Event, i)
			if !strings.HasPrefix(result.Rejected[rejected].Reason, reason) {
				t.Errorf("event %d was refused with %q", i, result.Rejected[rejected].Reason)
			}
			rejected++
		}
	}
	same(t, []int{len(result.Rows), len(result.Rejected)}, []int{rows, rejected})
}

func TestAsManyRowsAsEventsAreNotOneOfEach(t *testing.T) {
	plugin := gristmill.TransformMany(spec, func(in number) ([]number, error) { return make([]number, in.N), nil })
	result := run(t, plugin, number{"a", 2}, number{"b", 0}, number{"c", 1})
	for i, event := range []int{0, 0, 2} {
		same(t, result.Rows[i].Event, event)
	}
}

func TestAPanicOfTheRuntimeSaysWhere(t *testing.T) {
	var none []int64
	result := run(t, gristmill.Transform(spec, func(in number) (number, error) { return number{N: none[in.N]}, nil }), number{"a", 3})
	if got := result.Rejected[0].Reason; !strings.HasPrefix(got, "panic: runtime error: index out of range [3] with length 0 (rows_test.go:") {
		t.Error(got)
	}
	result = run(t, gristmill.Transform(spec, func(in number) (number, error) { return number{N: *(*int64)(nil)}, nil }), number{"a", 3})
	if got := result.Rejected[0].Reason; !strings.Contains(got, "nil pointer dereference (rows_test.go:") {
		t.Error(got)
	}
}

func TestWhatIsUsedAgainForTheNextRowIsReadBefore(t *testing.T) {
	type features struct {
		Sum  *int64
		Blob []byte
	}
	sum, buffer := int64(0), []byte(nil)
	result := run(t, gristmill.Transform(spec, func(in number) (features, error) {
		sum += in.N
		buffer = append(buffer[:0], byte(in.N))
		return features{&sum, buffer}, nil
	}), number{"a", 1}, number{"a", 2}, number{"a", 3})
	for i, want := range []int64{1, 3, 6} {
		same(t, result.Rows[i].Features, features{&want, []byte{byte(i + 1)}})
	}
}

func TestInputsStayRightWhenTheyAreKept(t *testing.T) {
	type event struct {
		ID   string
		Blob []byte
		Real *float64
	}
	var kept []event
	plugin := gristmill.Transform(spec, func(in event) (number, error) {
		kept = append(kept, in)
		_ = append(in.Blob, '!') // into the next value, if it could
		return number{}, nil
	})
	want := []event{{"a", []byte("x"), ptr(1.0)}, {"b", []byte("y"), nil}}
	run(t, plugin, want...)
	run(t, plugin, event{"c", []byte("z"), ptr(3.0)})
	same(t, kept[:2], want)
}

func TestTimesThatDoNotFitAreRefused(t *testing.T) {
	type features struct{ At time.Time }
	at := time.Date(400_000, 1, 1, 0, 0, 0, 0, time.UTC)
	result := run(t, gristmill.Transform(spec, func(in number) (features, error) { return features{at}, nil }), number{})
	same(t, result.Rejected, []gristmill.Rejected{{Event: 0, Reason: "output `at` is in the year 400000, which microseconds in 64 bits do not reach"}})
}

func TestAWrappedSkipSkips(t *testing.T) {
	result := run(t, gristmill.Transform(spec, func(in number) (number, error) {
		return number{}, errors.Join(gristmill.Skip, errors.New("nothing to see"))
	}), number{})
	same(t, result, &gristmill.Result[number]{})
}

func TestLinesAreLogged(t *testing.T) {
	result := run(t, gristmill.Transform(spec, func(in number) (number, error) {
		gristmill.Debug("a")
		gristmill.Info("b")
		gristmill.Warn("c")
		gristmill.Error("d")
		return in, nil
	}), number{})
	same(t, result.Logged, []string{"debug a", "info b", "warn c", "error d"})
}

func TestMistakesAreToldAllAtOnce(t *testing.T) {
	type event struct {
		Price   float32
		Total   float64 `gm:"2nd"`
		ID      *string `default:"a"`
		id      string
		Unit    float64 `gm:"unit"`
		Unit2   float64 `gm:"unit"`
		Took    time.Duration
		Nothing [0]float32
		Left    func() `gm:"-"`
	}
	type features struct {
		Total float64 `default:"1"`
	}
	plugin := gristmill.Transform(gristmill.Spec{Name: "a-b", Entity: "customer", EventTime: "unit"}, func(in event) (features, error) {
		return features{}, errors.New(in.id)
	})
	_, err := plugin.Run("")
	for _, want := range []string{
		"event.Price is float32; use bool, int64, int, float64, string,",
		"event.Total has the name \"2nd\"; a name has",
		"event.ID has a default, so that it is never null",
		"event.id is not exported; begin its name with a capital letter, or tag it `gm:\"-\"`",
		"event.Unit2 has the name `unit`, as gristmill_test.event.Unit has",
		"event.Took is time.Duration; use",
		"event.Nothing has 0 numbers",
		"features.Total has a default; only inputs have one",
		"Spec.Entity names `customer`, which is no input; inputs are unit",
		"Spec.EventTime names `unit`, which is no input of type gristmill.Timestamp or time.Time",
		"Spec.Name is `a-b`",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "Left") {
		t.Error(err)
	}
}

func TestSettingsWithoutAnyAreRefused(t *testing.T) {
	plugin := gristmill.Transform(spec, func(in number) (number, error) { return in, nil })
	if _, err := plugin.Run(`{"factor": 2}`); err == nil || err.Error() != "this transform takes no settings" {
		t.Error(err)
	}
	if _, err := plugin.Run(" \n"); err != nil {
		t.Error(err)
	}
}

type columns struct {
	ID     []string
	Whole  []int64
	Truth  []bool
	At     []time.Time
	Vector [][2]float32
	Blob   gristmill.Nullable[[]byte]
	Real   gristmill.Nullable[float64]
	Text   gristmill.Nullable[string]
	Pair   gristmill.Nullable[[2]float32]
}

func threeRows() columns {
	at := time.UnixMicro(5).UTC()
	none := []bool{false, true, false}
	return columns{
		[]string{"a", "", "ccc"}, []int64{1, 2, 3}, []bool{true, false, true}, []time.Time{at, at, at}, [][2]float32{{1, 2}, {3, 4}, {5, 6}},
		gristmill.Nullable[[]byte]{Values: [][]byte{{1}, {}, {3}}, Null: none}, gristmill.Nullable[float64]{Values: []float64{1, 0, 3}, Null: none},
		gristmill.Nullable[string]{Values: []string{"x", "", "z"}, Null: none}, gristmill.Nullable[[2]float32]{Values: [][2]float32{{1, 2}, {}, {5, 6}}, Null: none},
	}
}

func TestWholeColumnsComeBackAsTheyWent(t *testing.T) {
	plugin := gristmill.TransformColumns(spec, func(events *gristmill.Events, in columns) (columns, error) {
		in.Real.Values[1] = math.NaN() // means nothing at a null
		return in, nil
	})
	result, err := plugin.Run("", threeRows())
	if err != nil {
		t.Fatal(err)
	}
	same(t, result, &gristmill.ColumnsResult[columns]{Columns: threeRows(), Events: []int{0, 1, 2}})
}

func TestEventsAreDroppedFromColumns(t *testing.T) {
	plugin := gristmill.TransformColumns(spec, func(events *gristmill.Events, in columns) (columns, error) {
		events.Reject(2, "the last one")
		in.ID[1] = "\xff"
		return in, nil
	})
	result, err := plugin.Run("", threeRows())
	if err != nil {
		t.Fatal(err)
	}
	same(t, result.Events, []int{0})
	same(t, result.Columns.Pair.Values, [][2]float32{{1, 2}})
	same(t, result.Columns.Blob, gristmill.Nullable[[]byte]{Values: [][]byte{{1}}, Null: []bool{false}})
	same(t, result.Columns.ID, []string{"a"})
	same(t, len(result.Rejected), 2)
	same(t, result.Rejected[1], gristmill.Rejected{Event: 2, Reason: "the last one"})
}

func TestColumnsOfAnotherLengthAreAnError(t *testing.T) {
	plugin := gristmill.TransformColumns(spec, func(events *gristmill.Events, in columns) (columns, error) {
		in.Whole = in.Whole[:events.Len()-1]
		return in, nil
	})
	if _, err := plugin.Run("", threeRows()); err == nil || err.Error() != "output `whole` has 2 values for 3 events" {
		t.Error(err)
	}
	short := gristmill.TransformColumns(spec, func(events *gristmill.Events, in columns) (columns, error) {
		in.Text.Null = make([]bool, 5)
		return in, nil
	})
	if _, err := short.Run("", threeRows()); err == nil || !strings.HasPrefix(err.Error(), "output `text` says of 5 values whether they are null") {
		t.Error(err)
	}
}

func TestAPanicOverColumnsIsAnErrorOfTheBatch(t *testing.T) {
	plugin := gristmill.TransformColumns(spec, func(events *gristmill.Events, in columns) (columns, error) {
		events.Skip(3)
		return in, nil
	})
	if _, err := plugin.Run("", threeRows()); err == nil || !strings.HasPrefix(err.Error(), "panic: there is no event 3 among 3 (") {
		t.Error(err)
	}
}

func TestTheAuthorsColumnsAreLeftAsTheyAre(t *testing.T) {
	real := []float64{1, 2, 3}
	type out struct{ Real gristmill.Nullable[float64] }
	plugin := gristmill.TransformColumns(spec, func(events *gristmill.Events, in columns) (out, error) {
		return out{gristmill.Nullable[float64]{Values: real, Null: []bool{true, false, true}}}, nil
	})
	if _, err := plugin.Run("", threeRows()); err != nil {
		t.Fatal(err)
	}
	same(t, real, []float64{1, 2, 3})
}

func TestColumnsThatAreNoneAreToldToo(t *testing.T) {
	type wrapped struct{ gristmill.Nullable[float64] }
	type in struct {
		One     float64
		Pointer *gristmill.Nullable[float64]
		Wrapped wrapped
		Times   gristmill.Nullable[time.Duration]
	}
	_, err := gristmill.TransformColumns(spec, func(events *gristmill.Events, in in) (columns, error) { return columns{}, nil }).Run("", in{})
	for _, want := range []string{"in.One is float64; use a slice of one of bool", "in.Pointer is", "in.Wrapped is", "in.Times is"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	_, err = gristmill.TransformColumns(spec, func(events *gristmill.Events, in struct{}) (columns, error) { return columns{}, nil }).Run("", struct{}{})
	if err == nil || !strings.HasPrefix(err.Error(), "there are no inputs") {
		t.Error(err)
	}
	_, err = gristmill.Transform(spec, func(in *number) (number, error) { return number{}, nil }).Run("")
	if err == nil || !strings.HasPrefix(err.Error(), "*gristmill_test.number is no struct") {
		t.Error(err)
	}
}

func TestNamesOfFields(t *testing.T) {
	type event struct {
		ID, OrderID, UnitPrice, HTTPStatus, X2, A_B, Ärger string
	}
	plugin := gristmill.Transform(gristmill.Spec{Name: "a", Entity: "id order_id unit_price http_status x2 a_b"}, func(in event) (number, error) { return number{}, nil })
	_, err := plugin.Run("")
	if err == nil || !strings.Contains(err.Error(), "Ärger has the name \"ärger\"") || strings.Contains(err.Error(), "Spec") {
		t.Error(err)
	}
}

func BenchmarkRows(b *testing.B) {
	type order struct {
		Customer string
		Price    float64
		Quantity int64
	}
	type features struct {
		Total float64
		Label string
	}
	plugin := gristmill.Transform(gristmill.Spec{Name: "a", Entity: "customer"}, func(in order) (features, error) {
		return features{in.Price * float64(in.Quantity), in.Customer}, nil
	})
	events := make([]order, 1024)
	for b.Loop() {
		if result, err := plugin.Run("", events...); err != nil || len(result.Rows) != len(events) {
			b.Fatal(err)
		}
	}
}
