package core

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Nullable is a column in which null is a legal value.
type Nullable[T any] struct {
	// Values has one value a row; what stands at a null means nothing.
	Values []T
	// Null says of each row whether it is null. Empty: none is.
	Null []bool
}

func (Nullable[T]) isNullable() {}

type nullable interface{ isNullable() }

// Events are the events of a batch, for functions over whole columns.
type Events struct {
	rows    int
	dropped []bool // nil while all give their row
	refused []Rejection
}

// Len is how many there are, and how long each column is.
func (e *Events) Len() int { return e.rows }

// Skip says that an event gives no row; what the columns hold for it is dropped.
func (e *Events) Skip(row int) { e.drop(row) }

// Reject refuses an event with a reason; what the columns hold for it is dropped.
func (e *Events) Reject(row int, reason string) {
	if e.drop(row) {
		e.refused = append(e.refused, Rejection{uint32(row), reason})
	}
}

func (e *Events) drop(row int) bool {
	if row < 0 || row >= e.rows {
		panic("there is no event " + strconv.Itoa(row) + " among " + strconv.Itoa(e.rows))
	}
	if e.dropped == nil {
		e.dropped = make([]bool, e.rows)
	}
	was := e.dropped[row]
	e.dropped[row] = true
	return !was
}

// Columns is a transform that works on whole columns.
type Columns[I, O any] struct {
	plugin   Plugin
	function func(*Events, I) (O, error)
}

// WholeColumns makes a transform of a function of whole columns.
func WholeColumns[I, O any](spec Spec, function func(*Events, I) (O, error)) *Columns[I, O] {
	t := &Columns[I, O]{plugin: Plugin{Spec: spec}, function: function}
	t.plugin.Inputs = fieldsOf(reflect.TypeFor[I](), wholeColumns, true, t.plugin.wrong)
	t.plugin.Outputs = fieldsOf(reflect.TypeFor[O](), wholeColumns, false, t.plugin.wrong)
	t.plugin.Apply = t.apply
	t.plugin.register()
	return t
}

func (t *Columns[I, O]) apply(b *Batch) (out *Output, err error) {
	if err := fits(b, t.plugin.Inputs); err != nil {
		return nil, err
	}
	in := make([]I, 1)
	for i := range t.plugin.Inputs {
		f := &t.plugin.Inputs[i]
		f.loadColumn(f.valuesOf(&b.Columns[i], b.Rows, true), b.Rows, membersOf(in, f.offset))
	}
	events := &Events{rows: b.Rows}
	made := make([]O, 1)
	if made[0], err = t.call(events, in[0]); err != nil {
		return nil, err
	}
	columns := make([]Column, len(t.plugin.Outputs))
	nulls := make([][]bool, len(t.plugin.Outputs))
	for i := range t.plugin.Outputs {
		if nulls[i], err = t.plugin.Outputs[i].storeColumn(&columns[i], events, membersOf(made, t.plugin.Outputs[i].offset)); err != nil {
			return nil, err
		}
	}
	return finished(columns, nulls, events), nil
}

// call guards the author's function: a panic is an error of the batch, which the host then halves until the events at fault stand alone.
func (t *Columns[I, O]) call(events *Events, in I) (made O, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = errors.New(panicked(problem))
		}
	}()
	return t.function(events, in)
}

// storeColumn takes a member that is a whole column; a value that cannot be used refuses its event.
func (f *Field) storeColumn(c *Column, events *Events, of members) (nulls []bool, err error) {
	c.Kind, c.Width = f.Kind, f.Width
	if length := len(*member[[]struct{}](of, 0)); length != events.rows {
		return nil, errors.New("output `" + f.Name + "` has " + strconv.Itoa(length) + " values for " + strconv.Itoa(events.rows) + " events")
	}
	if f.Nullable {
		if nulls = *nullsOf(of); nulls != nil && len(nulls) != events.rows {
			return nil, errors.New("output `" + f.Name + "` says of " + strconv.Itoa(len(nulls)) + " values whether they are null, for " + strconv.Itoa(events.rows) + " events")
		}
	}
	counts := func(row int) bool {
		return (nulls == nil || !nulls[row]) && (events.dropped == nil || !events.dropped[row])
	}
	switch {
	case f.Kind == Boolean:
		c.Bools = *member[[]bool](of, 0)
	case f.goTime:
		c.Ints = make([]int64, events.rows)
		for row, at := range *member[[]time.Time](of, 0) {
			if counts(row) {
				if wrong := f.checkTime(at); wrong != "" {
					events.Reject(row, wrong)
				}
				c.Ints[row] = at.UnixMicro()
			}
		}
	case f.Kind == Integer, f.Kind == Time:
		c.Ints = *member[[]int64](of, 0)
	case f.Kind == Float:
		c.Floats = *member[[]float64](of, 0)
	case f.Kind == Text:
		c.Offsets = make([]uint32, 1, events.rows+1)
		for row, text := range *member[[]string](of, 0) {
			if counts(row) {
				if wrong := f.checkText(text); wrong != "" {
					events.Reject(row, wrong)
				}
				c.Bytes = append(c.Bytes, text...)
			}
			c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
		}
	case f.Kind == Bytes:
		c.Offsets = make([]uint32, 1, events.rows+1)
		for row, blob := range *member[[][]byte](of, 0) {
			if counts(row) {
				c.Bytes = append(c.Bytes, blob...)
			}
			c.Offsets = append(c.Offsets, uint32(len(c.Bytes)))
		}
	case f.Kind == Vector:
		c.Numbers = flattened(of, f.Width)
	}
	return nulls, nil
}

// finished leaves out the rows of events that give none, and puts placeholders where nulls are.
func finished(columns []Column, nulls [][]bool, events *Events) *Output {
	out := &Output{Batch{events.rows, columns}, nil, events.refused}
	if events.dropped != nil {
		out.Origins = make([]uint32, 0, events.rows)
		for row, dropped := range events.dropped {
			if !dropped {
				out.Origins = append(out.Origins, uint32(row))
			}
		}
		out.Rows = len(out.Origins)
		slices.SortFunc(out.Rejected, func(a, b Rejection) int { return int(a.Row) - int(b.Row) })
	}
	for i := range columns {
		c := &columns[i]
		if events.dropped != nil {
			c.keep(out.Origins)
		}
		var at []uint32
		for row := range out.Rows {
			from := row
			if out.Origins != nil {
				from = int(out.Origins[row])
			}
			if nulls[i] != nil && nulls[i][from] {
				at = append(at, uint32(row))
			}
		}
		if len(at) > 0 {
			c.blank(at, events.dropped != nil)
			c.setNulls(at, out.Rows)
		}
	}
	return out
}

// keep leaves these rows.
func (c *Column) keep(rows []uint32) {
	c.Bools, c.Ints, c.Floats = picked(c.Bools, rows, 1), picked(c.Ints, rows, 1), picked(c.Floats, rows, 1)
	c.Numbers = picked(c.Numbers, rows, c.Width)
	if c.Offsets != nil {
		// Rows that are dropped have left no bytes, or are refused for what their bytes are.
		offsets, bytes := make([]uint32, 1, len(rows)+1), []byte(nil)
		for _, row := range rows {
			bytes = append(bytes, c.bytesAt(int(row))...)
			offsets = append(offsets, uint32(len(bytes)))
		}
		c.Offsets, c.Bytes = offsets, bytes
	}
}

func picked[T any](from []T, rows []uint32, width int) []T {
	if from == nil {
		return nil
	}
	to := make([]T, 0, len(rows)*width)
	for _, row := range rows {
		to = append(to, from[int(row)*width:][:width]...)
	}
	return to
}

// blank puts zeros at nulls, in a copy where the values are still the author's.
func (c *Column) blank(nulls []uint32, own bool) {
	c.Bools, c.Ints, c.Floats = blanked(c.Bools, nulls, 1, own), blanked(c.Ints, nulls, 1, own), blanked(c.Floats, nulls, 1, own)
	c.Numbers = blanked(c.Numbers, nulls, c.Width, own)
}

func blanked[T any](values []T, nulls []uint32, width int, own bool) []T {
	if len(values) == 0 {
		return values
	}
	if !own {
		values = append([]T(nil), values...)
	}
	for _, row := range nulls {
		clear(values[int(row)*width:][:width])
	}
	return values
}
